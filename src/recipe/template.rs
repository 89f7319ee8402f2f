//! Templates of whole files (minijinja). Every value is escaped for the file's format; an unknown
//! name is an error; a template that loops is stopped.

use std::collections::BTreeSet;

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value};

use super::escape::Format;

/// Instructions a template may take: thousands of times what any of the catalog needs, and far less
/// than a second.
const FUEL: u64 = 1_000_000;

#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    #[error("`{0}` has no suffix that tells its format: {known}", known = suffixes())]
    Format(String),
    #[error("{detail}")]
    Template { line: usize, detail: String },
}

impl TemplateError {
    pub fn line(&self) -> usize {
        match self {
            TemplateError::Format(_) => 1,
            TemplateError::Template { line, .. } => *line,
        }
    }
}

impl From<Error> for TemplateError {
    fn from(error: Error) -> Self {
        let detail = match error.kind() {
            ErrorKind::UndefinedError => "uses a value that does not exist".to_owned(),
            ErrorKind::OutOfFuel => "does not end".to_owned(),
            kind => error.detail().map_or_else(|| kind.to_string(), str::to_owned),
        };
        TemplateError::Template { line: error.line().unwrap_or(1), detail }
    }
}

fn suffixes() -> String {
    Format::SUFFIXES.map(|(suffix, _)| format!("`.{suffix}`")).join(" ")
}

/// Renders `source`, named `name`, with `values`.
pub fn render(name: &str, source: &str, values: Value) -> Result<String, TemplateError> {
    let format = Format::of(name).ok_or_else(|| TemplateError::Format(name.to_owned()))?;
    let mut environment = environment();
    environment.set_formatter(move |out, state, value| {
        let text = match state.auto_escape() {
            AutoEscape::None => value.to_string(),
            _ if value.is_safe() => value.to_string(),
            _ => format.write(value).map_err(|e| Error::new(ErrorKind::BadEscape, e.to_string()))?,
        };
        out.write_str(&text).map_err(Error::from)
    });
    environment.add_template(name, source)?;
    Ok(environment.get_template(name)?.render(values)?)
}

/// The names a template takes from its values; an error if it is no template.
pub fn names(name: &str, source: &str) -> Result<BTreeSet<String>, TemplateError> {
    Format::of(name).ok_or_else(|| TemplateError::Format(name.to_owned()))?;
    let mut environment = environment();
    environment.add_template(name, source)?;
    Ok(environment.get_template(name)?.undeclared_variables(true).into_iter().collect())
}

fn environment<'a>() -> Environment<'a> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    let syntax = SyntaxConfig::builder().keep_trailing_newline(true).trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.expect("the usual delimiters"));
    environment.set_auto_escape_callback(|_| AutoEscape::Custom("value".into()));
    environment
}

#[cfg(test)]
mod tests {
    use minijinja::context;

    use super::*;

    #[test]
    fn values_are_escaped_for_the_file() {
        let values = || context! { title => "l'été" };
        assert_eq!(render("a.php", "x = {{ title }};\n", values()).unwrap(), "x = 'l\\'été';\n");
        assert_eq!(render("a.json", "{{ title }}", values()).unwrap(), "\"l'été\"");
        assert_eq!(render("a.php", "{{ title | safe }}", values()).unwrap(), "l'été");
        assert_eq!(render("a.php", "{{ 'a' ~ title }}", values()).unwrap(), "'al\\'été'");
    }

    #[test]
    fn mistakes_are_errors_with_a_line() {
        let error = render("a.php", "\n{{ titel }}", context! { title => "x" }).unwrap_err();
        assert_eq!((error.line(), error.to_string().as_str()), (2, "uses a value that does not exist"));
        let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}";
        assert_eq!(render("a.php", endless, context! {}).unwrap_err().to_string(), "does not end");
        assert!(render("a.sh", "", context! {}).unwrap_err().to_string().starts_with("`a.sh` has no suffix"));
        assert!(names("a.php", "{% if %}").is_err());
        let error = render("a.conf.j2", "a\n{{ x }}", context! { x => "$" }).unwrap_err();
        assert_eq!((error.line(), error.to_string().as_str()), (2, "nginx cannot hold `$` in a value"));
    }

    #[test]
    fn names_taken() {
        let names = names("a.php", "{{ secret.x }} {{ param.a }} {% set y = 1 %}{{ y }}").unwrap();
        assert_eq!(names, ["param.a".to_owned(), "secret.x".to_owned()].into());
    }
}
