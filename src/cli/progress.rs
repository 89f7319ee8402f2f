//! The events of a pass on a terminal: one living line for what is being done, a line for what is done.
//! Without a terminal: plain lines on standard error, so that a log shows the same story.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::engine::event::Finished;
use crate::engine::{Event, Events};

pub struct Terminal {
    /// `None`: not a terminal.
    bar: Option<ProgressBar>,
}

impl Terminal {
    pub fn new() -> Self {
        Self { bar: std::io::stderr().is_terminal().then(spinner) }
    }

    /// Takes the living line away, so that the summary follows cleanly.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| super::print::tell!("{text}")),
            None => super::print::tell!("{text}"),
        }
    }

    fn doing(&self, text: String) {
        match &self.bar {
            Some(bar) => {
                bar.set_message(text);
                bar.enable_steady_tick(Duration::from_millis(120));
            }
            None => super::print::tell!("{text}"),
        }
    }
}

fn spinner() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    // The template is a constant: it is right, or every run shows that it is not.
    bar.set_style(ProgressStyle::with_template("{spinner} {wide_msg}").expect("a valid template"));
    bar
}

impl Events for Terminal {
    fn event(&self, event: Event) {
        match event {
            Event::Observing { .. } | Event::Planned { .. } => {}
            Event::Started { step, of, on, change } => self.doing(format!("[{step}/{of}] {on}: {change}")),
            Event::Finished { outcome: Finished::Done, on, .. } => {
                if self.bar.is_some() {
                    self.line(&format!("  done {on}"));
                }
            }
            Event::Finished { outcome: Finished::Failed { error }, on, .. } => {
                self.line(&format!("  failed {on}: {error}"));
            }
            Event::Finished { outcome: Finished::Blocked { by }, on, .. } => {
                self.line(&format!("  blocked {on}: waits for {by}"));
            }
            Event::Said { text } => self.line(&format!("  {text}")),
            Event::Bytes { done, total } => {
                if let Some(bar) = &self.bar {
                    let of = total.map(|total| format!(" of {}", super::print::size(total))).unwrap_or_default();
                    bar.set_message(format!("{}{of}", super::print::size(done)));
                }
            }
        }
    }
}
