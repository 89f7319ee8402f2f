//! A push on a terminal: a living line for each server, and a line that stays for what ended. Without a terminal:
//! plain lines, so that a log tells the same story.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::directory;
use super::print::{self, tell};
use crate::controller::api::types::{ApplyLine, Outcome};
use crate::model::Name;
use crate::model::event::{Event, Finished};

pub struct Rollout {
    /// `None`: not a terminal.
    screen: Option<MultiProgress>,
    servers: BTreeMap<Name, ProgressBar>,
    /// Of the fleet that is pushed.
    directory: PathBuf,
    /// As the last line says; a push whose end was not seen is not converged.
    pub converged: bool,
    /// What the lines said, for `--json`.
    pub lines: Vec<ApplyLine>,
}

impl Rollout {
    pub fn new(directory: Option<&Path>) -> Self {
        let screen = std::io::stderr().is_terminal().then(MultiProgress::new);
        let directory = directory.unwrap_or(Path::new("")).to_owned();
        Self { screen, servers: BTreeMap::new(), directory, converged: false, lines: Vec::new() }
    }

    pub fn line(&mut self, line: ApplyLine) {
        match &line {
            ApplyLine::Pushed { revision, marks, not_enrolled, notes, .. } => {
                print::problem_notes(&directory::below(&self.directory, notes.clone()));
                if let Some(revision) = revision {
                    self.say(&format!("revision {revision} is stored; {} server(s) get a new document", marks.len()));
                }
                for server in not_enrolled {
                    self.say(&format!("{server}: has not enrolled, and gets its document when it does"));
                }
                for server in marks.keys() {
                    self.doing(server, "waits for the server".to_owned());
                }
            }
            ApplyLine::Accepted { server, mark } => self.doing(server, format!("has the document {mark}, and begins")),
            ApplyLine::Progress { server, event } => self.progress(server, event),
            ApplyLine::Server { server, outcome } => self.ended(server, outcome),
            ApplyLine::End { converged } => self.converged = *converged,
        }
        if !matches!(line, ApplyLine::Progress { .. }) {
            self.lines.push(line);
        }
    }

    fn progress(&mut self, server: &Name, event: &Event) {
        match event {
            Event::Observing { .. } | Event::Planned { .. } => {}
            Event::Started { step, of, on, change } => self.doing(server, format!("[{step}/{of}] {on}: {change}")),
            Event::Finished { outcome: Finished::Done, .. } => {}
            Event::Finished { outcome: Finished::Failed { error }, on, .. } => {
                self.say(&format!("{server}: failed {on}: {error}"));
            }
            Event::Finished { outcome: Finished::Blocked { by }, on, .. } => {
                self.say(&format!("{server}: blocked {on}: waits for {by}"));
            }
            Event::Said { text } => self.living(server, text.clone()),
            Event::Bytes { done, total } => {
                let of = total.map(|total| format!(" of {}", print::size(total))).unwrap_or_default();
                self.living(server, format!("{}{of}", print::size(*done)));
            }
        }
    }

    fn ended(&mut self, server: &Name, outcome: &Outcome) {
        if let Some(bar) = self.servers.remove(server) {
            bar.finish_and_clear();
        }
        self.say(&format!("{server}: {}", words(outcome)));
    }

    /// On the server's living line, if there is one.
    fn living(&mut self, server: &Name, text: String) {
        let Some(screen) = &self.screen else { return };
        let bar = self.servers.entry(server.clone()).or_insert_with(|| {
            // The template is a constant: it is right, or every run shows that it is not.
            let style = ProgressStyle::with_template("{spinner} {prefix} {wide_msg}").expect("a valid template");
            let bar = screen.add(ProgressBar::new_spinner().with_style(style).with_prefix(server.to_string()));
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        bar.set_message(text);
    }

    fn doing(&mut self, server: &Name, text: String) {
        match &self.screen {
            Some(_) => self.living(server, text),
            None => tell!("{server}: {text}"),
        }
    }

    fn say(&self, text: &str) {
        match &self.screen {
            Some(screen) => screen.suspend(|| tell!("{text}")),
            None => tell!("{text}"),
        }
    }

    /// Takes the living lines away, so that the summary follows cleanly.
    pub fn finish(&mut self) {
        for bar in std::mem::take(&mut self.servers).into_values() {
            bar.finish_and_clear();
        }
    }

    /// The outcomes by server, as data on standard output.
    pub fn summary(&self) -> anyhow::Result<()> {
        let outcomes = self.lines.iter().filter_map(|line| match line {
            ApplyLine::Server { server, outcome } => Some((server, outcome)),
            _ => None,
        });
        let outcomes: BTreeMap<_, _> = outcomes.collect();
        let alone = outcomes.len() == 1;
        for (server, outcome) in outcomes {
            match outcome {
                Outcome::Reported { report } => {
                    if !alone {
                        print::heading(server.as_str())?;
                    }
                    print::report(report, false)?;
                }
                Outcome::Refused { error, problems } => {
                    print::problems(problems);
                    print::error_report(error);
                }
                Outcome::Failed { error } => print::error_report(error),
                _ => {}
            }
        }
        Ok(())
    }
}

fn words(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Reported { report } if report.converged => "is as wanted".to_owned(),
        Outcome::Reported { .. } => "is not as wanted yet".to_owned(),
        Outcome::Unchanged { as_wanted: true } => "has this document already, and is as wanted".to_owned(),
        Outcome::Unchanged { as_wanted: false } => {
            "has this document already, and is not as wanted: see socle fleet status".to_owned()
        }
        Outcome::Refused { error, .. } => format!("refused the document: {error}"),
        Outcome::Failed { error } => format!("has the document, could not do its pass, and tries again: {error}"),
        Outcome::NotConnected { last_seen: Some(at) } => {
            let at = at.strftime("%Y-%m-%d %H:%M UTC");
            format!("is not connected since {at}, and gets the document when it connects")
        }
        Outcome::NotConnected { last_seen: None } => {
            "was never connected, and gets the document when it connects".to_owned()
        }
        Outcome::Gone => "its connection ended before it reported; it goes on by itself".to_owned(),
        Outcome::Replaced { mark } => format!("has the newer document {mark} meanwhile"),
        Outcome::Late => "has not ended in the time that is watched; it goes on by itself".to_owned(),
    }
}
