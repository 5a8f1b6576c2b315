//! Tables out of SQLite files, CSV files and JSON.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use serde_json::{Map, Value};

use crate::cli::Failure;

/// Far above any table that people wrote by clicking.
const LONGEST_FILE: u64 = 1024 * 1024 * 1024;

/// What every SQLite file begins with.
const SQLITE: &[u8] = b"SQLite format 3\0";

/// Rows by table; a row's values by column.
#[derive(Debug, Default)]
pub(super) struct Tables(BTreeMap<String, Vec<Row>>);

/// A row.
pub(super) type Row = Map<String, Value>;

impl Tables {
    /// The rows of the table; none where it is not there.
    pub(super) fn rows(&self, table: &str) -> &[Row] {
        self.0.get(table).map_or(&[], Vec::as_slice)
    }

    pub(super) fn has(&self, table: &str) -> bool {
        self.0.contains_key(table)
    }

    /// The only table that has all of these columns.
    pub(super) fn having(&self, columns: &[&str]) -> Option<&str> {
        let has = |rows: &[Row]| rows.first().is_some_and(|row| columns.iter().all(|column| row.contains_key(*column)));
        let mut found = self.0.iter().filter(|(_, rows)| has(rows)).map(|(name, _)| name.as_str());
        found.next().filter(|_| found.next().is_none())
    }

    /// The names of all tables, for people.
    pub(super) fn names(&self) -> String {
        let names: Vec<&str> = self.0.keys().map(String::as_str).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    }

    fn add(&mut self, table: String, rows: impl IntoIterator<Item = Row>) {
        self.0.entry(table).or_default().extend(rows);
    }
}

/// The value as text: numbers in digits, nothing as the empty text.
pub(super) fn text(row: &Row, column: &str) -> String {
    match row.get(column) {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => String::new(),
        Some(other) => other.to_string(),
    }
}

/// Whether the value is true, as databases and their exports write it.
pub(super) fn truth(row: &Row, column: &str) -> bool {
    matches!(text(row, column).to_ascii_lowercase().as_str(), "1" | "true" | "t" | "yes")
}

/// Reads every file.
///
/// # Errors
/// [`Failure::Usage`] for a file that is none of these.
pub(super) fn read(files: &[std::path::PathBuf]) -> Result<Tables, Failure> {
    let mut tables = Tables::default();
    for path in files {
        read_file(path, &mut tables).map_err(|why| Failure::Usage(format!("{}: {why}", path.display())))?;
    }
    Ok(tables)
}

fn read_file(path: &Path, tables: &mut Tables) -> Result<(), String> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| format!("cannot read the file: {error}"))?;
    let mut head = [0; SQLITE.len()];
    let mut source = file.take(LONGEST_FILE);
    let length = source.read(&mut head).map_err(|error| format!("cannot read the file: {error}"))?;
    let head = head.get(..length).unwrap_or_default();
    if head == SQLITE {
        return read_sqlite(path, tables).map_err(|error| format!("cannot read the database: {error}"));
    }
    bytes.extend_from_slice(head);
    source.read_to_end(&mut bytes).map_err(|error| format!("cannot read the file: {error}"))?;
    let text = String::from_utf8(bytes).map_err(|_| "neither SQLite nor text in UTF-8".to_owned())?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if text.trim_start().starts_with(['[', '{']) { read_json(text, stem, tables) } else { read_csv(text, stem, tables) }
}

fn read_sqlite(path: &Path, tables: &mut Tables) -> rusqlite::Result<()> {
    let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut names =
        database.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")?;
    let names: Vec<String> = names.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for name in names {
        let mut statement = database.prepare(&format!("SELECT * FROM \"{}\"", name.replace('"', "\"\"")))?;
        let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let rows = statement.query_map([], |row| {
            let mut read = Row::new();
            for (position, column) in columns.iter().enumerate() {
                let value = match row.get_ref(position)? {
                    ValueRef::Null | ValueRef::Blob(_) => Value::Null,
                    ValueRef::Integer(number) => number.into(),
                    ValueRef::Real(number) => number.into(),
                    ValueRef::Text(bytes) => String::from_utf8_lossy(bytes).into(),
                };
                read.insert(column.clone(), value);
            }
            Ok(read)
        })?;
        tables.add(name, rows.collect::<Result<Vec<_>, _>>()?);
    }
    Ok(())
}

fn read_csv(text: &str, table: &str, tables: &mut Tables) -> Result<(), String> {
    let mut reader = csv::ReaderBuilder::new().from_reader(text.as_bytes());
    let columns = reader.headers().map_err(|error| error.to_string())?.clone();
    if columns.iter().all(str::is_empty) {
        return Err("an empty file\nwrite the names of the columns in its first line".to_owned());
    }
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| error.to_string())?;
        rows.push(columns.iter().zip(&record).map(|(column, value)| (column.to_owned(), value.into())).collect());
    }
    tables.add(table.to_owned(), rows);
    Ok(())
}

fn read_json(text: &str, table: &str, tables: &mut Tables) -> Result<(), String> {
    const SHAPES: &str = "write an object of tables, or a list of rows in a file named after its table";
    match serde_json::from_str(text).map_err(|error| format!("no JSON: {error}"))? {
        Value::Object(all) => {
            for (name, rows) in all {
                let Value::Array(rows) = rows else { return Err(format!("`{name}` is no list of rows\n{SHAPES}")) };
                tables
                    .add(name.clone(), rows.into_iter().map(|row| object(row, &name)).collect::<Result<Vec<_>, _>>()?);
            }
        }
        Value::Array(rows) => {
            for row in rows {
                add_row(object(row, table)?, table, tables);
            }
            tables.add(table.to_owned(), []);
        }
        _ => return Err(SHAPES.to_owned()),
    }
    Ok(())
}

fn object(row: Value, table: &str) -> Result<Row, String> {
    match row {
        Value::Object(row) => Ok(row),
        other => Err(format!("a row of `{table}` is no object: `{other}`")),
    }
}

/// A row, or one of Django's `dumpdata`: `{"model": "auth.user", "pk": 1, "fields": {…}}`, in which a column that names
/// another row lacks its `_id`, and the rows of a joining table are a list of numbers.
fn add_row(mut row: Row, table: &str, tables: &mut Tables) {
    let (Some(Value::String(model)), Some(Value::Object(fields))) = (row.get("model").cloned(), row.remove("fields"))
    else {
        tables.add(table.to_owned(), [row]);
        return;
    };
    let table = model.replace('.', "_");
    let id = row.get("pk").cloned().unwrap_or(Value::Null);
    let mut read = Row::new();
    for (column, value) in fields {
        match value {
            Value::Array(others) => {
                let (one, other) =
                    (format!("{}_id", model_name(&model)), format!("{}_id", column.trim_end_matches('s')));
                tables.add(
                    format!("{table}_{column}"),
                    others.into_iter().map(|value| Row::from_iter([(one.clone(), id.clone()), (other.clone(), value)])),
                );
            }
            value => {
                if matches!(column.as_str(), "user" | "group") {
                    read.insert(format!("{column}_id"), value);
                } else {
                    read.insert(column, value);
                }
            }
        }
    }
    read.insert("id".to_owned(), id);
    tables.add(table, [read]);
}

fn model_name(model: &str) -> &str {
    model.rsplit('.').next().unwrap_or(model)
}
