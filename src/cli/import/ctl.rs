//! ctl: one set of permissions for whoever starts it, and what its plugins ask for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::plan::{Fate, NewGrant, Plan};
use crate::cli::Failure;
use crate::policy::written::Written;
use crate::policy::{Levels, Pattern, dialect};

/// Plans the import.
///
/// # Errors
/// [`Failure::Usage`] for a file that is no configuration of ctl's.
pub(super) fn plan(files: &[PathBuf], subject: &Written) -> Result<Plan, Failure> {
    let mut plan = Plan::default();
    for path in files {
        let config = read(path).map_err(|why| Failure::Usage(format!("{}: {why}", path.display())))?;
        let Some(ctl) = config.get("ctl").and_then(Value::as_object) else {
            return Err(Failure::Usage(format!("{}: there is no `ctl` in it", path.display())));
        };
        match ctl.get("permissions") {
            None => plan.remark(
                "2.1",
                Fate::Note,
                path.display().to_string(),
                "without `permissions` ctl refuses everything",
            ),
            Some(Value::Array(rows)) => permissions(rows, subject, &mut plan),
            Some(_) => return Err(Failure::Usage(format!("{}: `ctl.permissions` is no list", path.display()))),
        }
        for plugin in ctl.get("plugins").and_then(Value::as_array).into_iter().flatten() {
            report_plugin(plugin, &mut plan);
        }
    }
    Ok(plan)
}

fn read(path: &Path) -> Result<Value, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read the file: {error}"))?;
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(&text).map_err(|error| format!("no JSON: {error}"));
    }
    serde_saphyr::from_str(&text).map_err(|error| format!("no YAML: {error}"))
}

/// ctl makes a dictionary of the rows, so of two equal texts the later counts; of two with one meaning, the text that
/// sorts last.
fn permissions(rows: &[Value], subject: &Written, plan: &mut Plan) {
    let mut written: BTreeMap<String, (Levels, String)> = BTreeMap::new();
    for row in rows {
        let (Some(namespace), Some(permission)) = (row.get("namespace").and_then(Value::as_str), row.get("permission"))
        else {
            plan.drop("2.1", row.to_string(), "a row has `namespace` and `permission`: ctl refuses this configuration");
            continue;
        };
        let label =
            format!("{namespace} = {}", permission.as_str().map_or_else(|| permission.to_string(), str::to_owned));
        let Some(levels) = levels(permission, &label, plan) else { continue };
        if let Some((_, earlier)) = written.insert(namespace.to_owned(), (levels, label.clone())) {
            plan.drop("1.3", earlier, format!("replaced by a later row of the same namespace: {label}"));
        }
    }
    let mut by_name: BTreeMap<Pattern, (Levels, String)> = BTreeMap::new();
    for (namespace, (levels, label)) in written {
        let Ok(pattern) = dialect::pattern(&namespace) else {
            plan.drop("G6", label, format!("more than {} keys", crate::policy::MAX_KEYS));
            continue;
        };
        if let Some((_, other)) = by_name.insert(pattern, (levels, label.clone())) {
            plan.drop("1.3", other, format!("never counted: {label} means the same name and sorts after it"));
        }
    }
    for (pattern, (levels, row)) in by_name {
        plan.grants.push(NewGrant { who: subject.clone(), keys: pattern.keys().to_vec(), levels, row });
    }
}

fn levels(permission: &Value, label: &str, plan: &mut Plan) -> Option<Levels> {
    let read = match permission {
        Value::String(text) => {
            let read = dialect::flags(text);
            if text.parse() != Ok(read) && !read.is_empty() {
                plan.change("G1", label, format!("to ctl these letters are {read}; that is what is imported"));
            }
            read
        }
        Value::Number(number) => {
            let mask = number.as_i128().unwrap_or_default();
            let read = u8::try_from(mask & 15).ok().and_then(Levels::from_bits).unwrap_or_default();
            if !(0..=15).contains(&mask) {
                plan.change("bits", label, "the mask has bits that are no flag of grainy's; they are left out");
            }
            read
        }
        _ => Levels::NONE,
    };
    if read.is_empty() {
        plan.drop(
            "2.1",
            label,
            "this gives nothing: ctl refuses a configuration with such a row, so it is no deny either",
        );
        return None;
    }
    Some(read)
}

/// What a plugin asks for is said by an operation here; that is written in a service's table, by hand.
fn report_plugin(plugin: &Value, plan: &mut Plan) {
    let name = plugin.get("name").and_then(Value::as_str).unwrap_or("?");
    let kind = plugin.get("type").and_then(Value::as_str).unwrap_or("?");
    let row = format!("plugin {name}");
    let what = format!(
        "ctl asks for r on ctl.{kind} and on ctl.{name} before anything else; here nothing is asked beside the operation"
    );
    plan.remark("2.1", Fate::Note, row.clone(), what);
    let asked = plugin.get("config").and_then(|config| config.get("permissions"));
    match asked {
        None => {}
        Some(Value::Object(asked)) => {
            for (method, level) in asked {
                report_method(&format!("{row}, {method}"), level, plan);
            }
        }
        Some(_) => plan.remark("2.2", Fate::Note, row.clone(), "its `permissions` are no table, and ctl fails on them"),
    }
    let what = "an argument named `plugin` or `plugin_name` changes what ctl checks, and arguments are pasted into the name \
                as they are; here names are filled from the path alone, each segment one key";
    plan.remark("C1, C2", Fate::Note, row, what);
}

fn report_method(row: &str, level: &Value, plan: &mut Plan) {
    let text = level.as_str().map_or_else(|| level.to_string(), str::to_owned);
    let mask = match level {
        Value::Number(number) => number.as_i128().map_or(Levels::NONE, dialect::mask),
        _ => level.as_str().map_or(Levels::NONE, dialect::flags),
    };
    let words: Vec<&str> = mask.words().collect();
    let what = match words.as_slice() {
        [] => format!("`{text}` is no level, so ctl always refuses it: leave the operation undeclared"),
        [one] => format!("declare it as an operation of the service: level = \"{one}\""),
        several => format!(
            "ctl takes any of {}; an operation needs all of its levels: declare the one that is meant",
            several.join(", ")
        ),
    };
    plan.remark("2.2", Fate::Note, row, what);
}
