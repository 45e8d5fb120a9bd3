//! Options as Go's command lines take them: `--name value`, `--name=value`, one or two dashes, before the positional words.

use crate::failure::{Failure, Result};
use std::path::{Path, PathBuf};

#[derive(Debug, Default)]
pub struct Args {
    options: Vec<(&'static str, String)>,
    /// What follows the options.
    pub rest: Vec<String>,
}

/// Long name, short name (or empty), whether it takes a value.
pub type Known = (&'static str, &'static str, bool);

const GLOBAL: [Known; 10] = [
    ("root", "", true),
    ("log", "", true),
    ("log-format", "", true),
    ("criu", "", true),
    ("rootless", "", true),
    ("cgroup-manager", "", true),
    ("debug", "", false),
    ("systemd-cgroup", "", false),
    ("version", "v", false),
    ("help", "h", false),
];

const DEFAULT_ROOT: &str = "/run/caisson-runtime";

impl Args {
    pub fn parse_global(words: Vec<String>) -> Result<Args> {
        Self::parse_front(words, &GLOBAL)
    }

    /// Options may stand behind the positional words too.
    pub fn parse(words: Vec<String>, known: &[Known]) -> Result<Args> {
        let mut args = Self::parse_front(words, known)?;
        let mut rest = std::mem::take(&mut args.rest).into_iter();
        while let Some(word) = rest.next() {
            if word.len() > 1 && word.starts_with('-') {
                let behind = Self::parse_front(std::iter::once(word).chain(rest).collect(), known)?;
                args.options.extend(behind.options);
                rest = behind.rest.into_iter();
            } else {
                args.rest.push(word);
            }
        }
        Ok(args)
    }

    /// Options end at the first positional word: what follows is somebody else's command line.
    pub fn parse_front(words: Vec<String>, known: &[Known]) -> Result<Args> {
        let mut args = Args::default();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            if word == "--" {
                break;
            }
            let Some(name) = word.strip_prefix('-').filter(|name| !name.is_empty()) else {
                args.rest.push(word);
                break;
            };
            let name = name.strip_prefix('-').unwrap_or(name);
            let (name, value) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (name, None),
            };
            let Some((long, _, takes)) = known.iter().find(|(long, short, _)| name == *long || name == *short) else {
                return Err(Failure::invalid("options", format!("flag provided but not defined: -{name}")));
            };
            let value = match (takes, value) {
                (false, value) => value.unwrap_or_else(|| "true".into()),
                (true, Some(value)) => value,
                (true, None) => words
                    .next()
                    .ok_or_else(|| Failure::invalid("options", format!("flag needs an argument: -{name}")))?,
            };
            args.options.push((long, value));
        }
        args.rest.extend(words);
        Ok(args)
    }

    pub fn value(&self, name: &str) -> Option<&str> {
        self.values(name).last().copied()
    }

    pub fn values(&self, name: &str) -> Vec<&str> {
        self.options.iter().filter(|(long, _)| *long == name).map(|(_, value)| value.as_str()).collect()
    }

    pub fn has(&self, name: &str) -> bool {
        self.value(name).is_some_and(|value| value != "false")
    }

    /// Absolute: what is kept of it must mean the same to a later call from elsewhere. An ordinary user's is his own.
    pub fn root(&self) -> PathBuf {
        let own = || std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty() && self.rootless());
        let root = match self.value("root") {
            Some(root) => PathBuf::from(root),
            None => own().map_or(DEFAULT_ROOT.into(), |dir| Path::new(&dir).join("caisson-runtime")),
        };
        std::path::absolute(&root).unwrap_or(root)
    }

    /// Whether the caller has the rights of an ordinary user, whoever he is in a user namespace.
    pub fn rootless(&self) -> bool {
        match self.value("rootless") {
            Some("true") => true,
            Some("false") => false,
            _ => crate::user_namespace::is_unprivileged(),
        }
    }

    /// The container's id: the first positional word, and no further ones unless `more`.
    pub fn id(&self, more: bool) -> Result<&str> {
        match self.rest.as_slice() {
            [] => Err(Failure::invalid("arguments", "the id of a container is missing")),
            [id] => Ok(id),
            [id, ..] if more => Ok(id),
            [_, extra, ..] => Err(Failure::invalid("arguments", format!("unexpected argument {extra:?}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Args> {
        let known = [("bundle", "b", true), ("force", "f", false), ("env", "e", true)];
        Args::parse_front(words.iter().map(|word| (*word).to_string()).collect(), &known)
    }

    #[test]
    fn both_forms_of_values_and_one_dash() {
        let args = parse(&["--bundle", "/a", "-e", "A=1", "--env=B=2", "-f", "id", "-x", "--force"]).unwrap();
        assert_eq!(args.value("bundle"), Some("/a"));
        assert_eq!(args.values("env"), ["A=1", "B=2"]);
        assert!(args.has("force"));
        assert_eq!(args.rest, ["id", "-x", "--force"]);
    }

    #[test]
    fn options_behind_the_words() {
        let known = [("force", "f", false), ("env", "e", true)];
        let words = ["a", "--env", "A=1", "b", "-f"].map(str::to_owned).to_vec();
        let args = Args::parse(words, &known).unwrap();
        assert_eq!(
            (args.rest.as_slice(), args.value("env"), args.has("force")),
            (&["a".to_owned(), "b".to_owned()][..], Some("A=1"), true)
        );
    }

    #[test]
    fn unknown_options_and_missing_values_are_errors() {
        assert_eq!(parse(&["--what"]).unwrap_err().message, "flag provided but not defined: -what");
        assert_eq!(parse(&["--bundle"]).unwrap_err().message, "flag needs an argument: -bundle");
    }
}
