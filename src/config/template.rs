//! Reading templates: `Bearer {secret:mp-api-key}`.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::bounds::SECRET_NAME_BYTES;
use super::fault::{Complaint, nearest};
use super::reference::References;
use super::{Hidden, Template, TemplatePart, Variable};

impl Template {
    /// Reads a template strictly: every brace is a variable or doubled. References become literal parts, whose braces
    /// mean nothing. Nothing of the text is ever shown, as it may hold a secret.
    pub(super) fn parse(written: &str, references: References<'_>) -> Result<Self, Complaint> {
        let mut reader = Reader { parts: Vec::new(), literal: Zeroizing::new(String::new()) };
        if let Some(path) = written.strip_prefix("file:") {
            reader.literal.push_str(&references.file(path)?);
        } else {
            reader.read(written, references)?;
        }
        reader.close_literal();
        Ok(Self { parts: reader.parts, written: written.into() })
    }

    /// The texts of its literal parts.
    pub(super) fn literals(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            TemplatePart::Literal(text) => Some(text.reveal()),
            TemplatePart::Variable(_) => None,
        })
    }
}

struct Reader {
    parts: Vec<TemplatePart>,
    literal: Zeroizing<String>,
}

impl Reader {
    fn read(&mut self, written: &str, references: References<'_>) -> Result<(), Complaint> {
        let mut rest = written;
        while let Some(at) = rest.find(['{', '}', '$']) {
            let (before, from) = rest.split_at(at);
            self.literal.push_str(before);
            let position = written.len() - from.len();
            rest = if let Some(after) = from.strip_prefix("{{") {
                self.literal.push('{');
                after
            } else if let Some(after) = from.strip_prefix("}}") {
                self.literal.push('}');
                after
            } else if from.starts_with("${") && !from.starts_with("${{") {
                let (name, after) = inside(from, 2).ok_or_else(|| unclosed(written, position))?;
                self.literal.push_str(&references.variable(name)?);
                after
            } else if let Some(after) = from.strip_prefix('$') {
                self.literal.push('$');
                after
            } else if from.starts_with('{') {
                let (name, after) = inside(from, 1).ok_or_else(|| unclosed(written, position))?;
                let variable = variable(name).ok_or_else(|| unknown(written, position, name))?;
                self.close_literal();
                self.parts.push(TemplatePart::Variable(variable));
                after
            } else {
                return Err(Complaint::new(
                    format!("`}}` at character {} without `{{` before it", character(written, position)),
                    "write `}}` for a literal `}`",
                ));
            };
        }
        self.literal.push_str(rest);
        Ok(())
    }

    fn close_literal(&mut self) {
        if !self.literal.is_empty() {
            let text = std::mem::take(&mut *self.literal);
            self.parts.push(TemplatePart::Literal(Hidden::new(text)));
        }
    }
}

/// What stands between an opening of `skip` bytes and the next `}`, and what follows.
fn inside(from: &str, skip: usize) -> Option<(&str, &str)> {
    from.get(skip..)?.split_once('}')
}

fn variable(name: &str) -> Option<Variable> {
    match name {
        "user" | "user.name" => Some(Variable::UserName),
        "user.id" => Some(Variable::UserId),
        "user.email" => Some(Variable::UserEmail),
        "groups" => Some(Variable::Groups),
        "groups.token" => Some(Variable::TokenGroups),
        _ => {
            let (kind, of) = name.split_once(':')?;
            match kind {
                "secret" if is_secret_name(of) => Some(Variable::Secret(of.to_lowercase().into())),
                "claim" if is_claim_name(of) => Some(Variable::Claim(Arc::from(of))),
                _ => None,
            }
        }
    }
}

/// A secret's name is part of a header's name (`secret-NAME`), RFC 9110 §5.6.2.
fn is_secret_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= SECRET_NAME_BYTES
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn is_claim_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 255 && !name.chars().any(|found| found.is_control() || found == '{')
}

const KNOWN: [&str; 8] = [
    "{secret:NAME}",
    "{user}",
    "{user.name}",
    "{user.id}",
    "{user.email}",
    "{groups}",
    "{groups.token}",
    "{claim:NAME}",
];

fn unknown(written: &str, position: usize, name: &str) -> Complaint {
    let what = format!("the braces at character {} hold no variable", character(written, position));
    let braced = format!("{{{}}}", name.split_once(':').map_or(name, |(kind, _)| kind));
    let near = nearest(&braced, KNOWN.map(|known| known.strip_suffix(":NAME}").unwrap_or(known)));
    let near = near.and_then(|near| KNOWN.into_iter().find(|known| known.starts_with(near)));
    let known = KNOWN.map(|known| format!("`{known}`")).join(", ");
    let near = near.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
    Complaint::new(what, format!("{near}known: {known}; `{{{{` and `}}}}` are literal braces"))
}

fn unclosed(written: &str, position: usize) -> Complaint {
    Complaint::new(
        format!("`{{` at character {} without `}}` after it", character(written, position)),
        "write `{{` for a literal `{`",
    )
}

/// The character, from 1, that the byte offset is at.
fn character(written: &str, position: usize) -> usize {
    written.get(..position).map_or(0, |before| before.chars().count()) + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(written: &str) -> Result<Template, Complaint> {
        let env = |name: &str| (name == "KEY").then(|| "{user}".to_owned());
        Template::parse(written, References::Followed { directory: std::path::Path::new("."), env: &env })
    }

    fn shown(written: &str) -> String {
        let template = parse(written).unwrap_or_else(|complaint| panic!("{written}: {}", complaint.what));
        let part = |part: &TemplatePart| match part {
            TemplatePart::Literal(text) => format!("{:?}", text.reveal()),
            TemplatePart::Variable(variable) => format!("{variable:?}"),
        };
        template.parts.iter().map(part).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn variables_braces_and_references_are_read() {
        for (written, parts) in [
            ("", ""),
            ("plain", "\"plain\""),
            ("Bearer {secret:MP-Key}", "\"Bearer \" Secret(\"mp-key\")"),
            ("{user}{user.name}{user.id}", "UserName UserName UserId"),
            ("{user.email}, {groups}", "UserEmail \", \" Groups"),
            ("{groups.token}", "TokenGroups"),
            ("{claim:cognito:username}", "Claim(\"cognito:username\")"),
            ("{{a}} {{{user}}}", "\"{a} {\" UserName \"}\""),
            ("a${KEY}b", "\"a{user}b\""),
            ("$5 ${{KEY}} $", "\"$5 ${KEY} $\""),
        ] {
            assert_eq!(shown(written), parts, "{written}");
        }
    }

    #[test]
    fn what_is_no_variable_is_refused_without_showing_it() {
        for (written, what, instead) in [
            ("ab{secrets:x}", "the braces at character 3 hold no variable", "did you mean `{secret:NAME}`? known: "),
            ("{user.mail}", "the braces at character 1 hold no variable", "did you mean `{user.email}`? known: "),
            ("{canary}", "the braces at character 1 hold no variable", "known: "),
            ("{secret:}", "the braces at character 1 hold no variable", "did you mean `{secret:NAME}`? known: "),
            ("{secret:a b}", "the braces at character 1 hold no variable", "did you mean `{secret:NAME}`? known: "),
            ("ä{canary", "`{` at character 2 without `}` after it", "write `{{` for a literal `{`"),
            ("canary}", "`}` at character 7 without `{` before it", "write `}}` for a literal `}`"),
            ("{}", "the braces at character 1 hold no variable", "known: "),
        ] {
            let complaint = parse(written).err().unwrap_or_else(|| panic!("{written}"));
            assert_eq!(complaint.what, what, "{written}");
            assert!(complaint.instead.starts_with(instead), "{written}: {}", complaint.instead);
            assert!(!format!("{complaint:?}").contains("canary"), "{written}");
        }
    }

    #[test]
    fn a_name_that_no_secret_can_have_is_no_variable() {
        let named = |length: usize| parse(&format!("{{secret:{}}}", "k".repeat(length)));
        assert!(named(SECRET_NAME_BYTES).is_ok());
        assert!(named(SECRET_NAME_BYTES + 1).is_err());
    }

    #[test]
    fn debug_shows_no_literal() {
        let text = format!("{:?}", parse("canary {user} ${KEY}").unwrap());
        assert_eq!(text, "Template(…{user}…)");
    }

    proptest! {
        #[test]
        fn any_text_with_doubled_braces_is_itself(text in "[a-z{}$é]{0,20}") {
            let doubled = text.replace('{', "{{").replace('}', "}}");
            let template = parse(&doubled).map_err(|complaint| TestCaseError::fail(complaint.what))?;
            let read: String = template.literals().collect();
            prop_assert_eq!(read, text);
        }

        #[test]
        fn reading_never_panics(text in "\\PC{0,40}") {
            let _ = parse(&text);
        }
    }
}
