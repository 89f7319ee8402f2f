//! Units of systemd as typed fields, and their text.
//!
//! A unit is never written from free text: every value is one of these fields, quoted here. See
//! systemd.service(5), systemd.exec(5), systemd.resource-control(5). Debian 12 has systemd 252, so
//! nothing newer is used.

mod quote;
mod sandbox;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::quote::{argv, directory, plain, quoted, reload_argv, token, unit_name};
use super::Digest;

/// Ceilings of an instance or service, per unit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// `MemoryMax=`, in MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<u32>,
    /// `CPUQuota=`, in percent of one CPU (200 = two CPUs).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<u32>,
    /// `TasksMax=`: processes and threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks: Option<u32>,
}

/// What a unit may do beyond the default sandbox. Every field is an exception; the default is
/// none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sandbox {
    /// Absolute paths it may write (`ReadWritePaths=`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub writable: Vec<String>,
    /// Memory that is both writable and executable: just-in-time compilers (Node, Ruby, Java).
    pub write_execute: bool,
    /// What it may reach: nothing but local sockets, the loopback, or everything.
    pub network: Network,
    /// Ports below 1024 (`CAP_NET_BIND_SERVICE`).
    pub low_ports: bool,
    /// Further system calls, groups or names, beyond `@system-service`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub system_calls: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Unix sockets only; its own empty network namespace.
    None,
    /// 127.0.0.0/8 and ::1 only.
    Loopback,
    /// Everything.
    #[default]
    Full,
}

/// How systemd knows the service is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Readiness {
    #[default]
    Exec,
    Notify,
    /// Runs to its end; the unit has failed if it ends with an error.
    Oneshot,
}

/// How a service is asked to end, before it is killed after its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    /// SIGTERM to all of its processes.
    #[default]
    Term,
    /// SIGQUIT to its main process, which has its children end what they have begun: PHP-FPM, nginx.
    Quit,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceUnit {
    pub description: String,
    pub after: Vec<String>,
    pub readiness: Readiness,
    pub exec: Vec<String>,
    /// `ExecReload=`. A word that is exactly `$MAINPID` is the process id; no other word has a meaning.
    pub reload: Option<Vec<String>>,
    /// None: `DynamicUser=yes`.
    pub user: Option<String>,
    pub environment: BTreeMap<String, String>,
    pub working_directory: Option<String>,
    /// `RuntimeDirectory=` (below /run), made and removed with the service, mode 0750: the user's group
    /// may enter, so a web server that is a member of it reaches a socket there.
    pub runtime_directory: Option<String>,
    pub sandbox: Sandbox,
    pub limits: Limits,
    /// `Slice=`
    pub slice: String,
    /// Seconds to start, and to stop.
    pub timeout_s: u32,
    #[serde(default)]
    pub ending: Ending,
    /// Started at boot.
    pub wanted_by: Vec<String>,
    /// Standard input and output as files, for tasks.
    pub stdin: Option<String>,
    pub stdout: Option<String>,
    /// Digest of everything the process reads at start but systemd does not: its release, its
    /// configuration. Part of the unit's mark ([`mark_of`]).
    pub inputs: Option<Digest>,
}

/// Where a started service leaves its mark ([`mark_of`]), as a symbolic link named like the unit.
pub const INPUTS_DIR: &str = "/run/socle/inputs";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimerUnit {
    pub description: String,
    /// `OnCalendar=`, systemd.time(7).
    pub on_calendar: String,
    /// `RandomizedDelaySec=`, seconds.
    pub jitter_s: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketUnit {
    pub description: String,
    pub listen: String,
    /// Only root may connect.
    pub private: bool,
}

/// First line of every unit we write: how we know our own.
pub const HEADER: &str = "# Managed by socle. Put changes into a drop-in (systemctl edit), they are respected.\n";

/// Begins the line that leaves the mark.
const MARK: &str = "ExecStartPost=-+/usr/bin/ln -sfn ";

/// The mark a service with this text leaves when it is started.
pub fn mark_of(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix(MARK)?.split(' ').next())
}

impl ServiceUnit {
    /// The text of the unit `name`. Total: a value that has no legal form becomes a harmless one (what
    /// users write is checked before, in [`super::document`]).
    ///
    /// A service that keeps running leaves a mark at each start: the digest of this text and of its
    /// inputs. So what a process was started with can be seen, whoever started it, and a crash of ours
    /// between writing a unit and restarting it is no loss.
    pub fn render(&self, name: &str) -> String {
        if self.readiness == Readiness::Oneshot {
            return self.text("");
        }
        let inputs = self.inputs.map(|inputs| inputs.to_string()).unwrap_or_default();
        let mark = Digest::of_parts([self.text("").as_str(), &inputs]);
        // `+`: outside the sandbox, as root; `-`: a failure does not fail the service. The directory is
        // made here too: a start must leave its mark on a host without the agent.
        self.text(&format!(
            "ExecStartPost=-+/usr/bin/install -d -m 0755 /run/socle {INPUTS_DIR}\n{MARK}{mark} {INPUTS_DIR}/{}\n",
            unit_name(name)
        ))
    }

    fn text(&self, mark: &str) -> String {
        let mut out = String::from(HEADER);
        section(&mut out, "Unit");
        line(&mut out, "Description", &plain(&self.description));
        if !self.after.is_empty() {
            let after = self.after.iter().map(|unit| unit_name(unit)).collect::<Vec<_>>().join(" ");
            line(&mut out, "After", &after);
            line(&mut out, "Wants", &after);
        }
        section(&mut out, "Service");
        self.commands(&mut out);
        out.push_str(mark);
        self.process(&mut out);
        line(&mut out, "TimeoutStartSec", &self.timeout_s.to_string());
        line(&mut out, "TimeoutStopSec", &self.timeout_s.to_string());
        if self.ending == Ending::Quit {
            line(&mut out, "KillSignal", "SIGQUIT");
            line(&mut out, "KillMode", "mixed");
        }
        if self.readiness != Readiness::Oneshot {
            line(&mut out, "Restart", "on-failure");
            line(&mut out, "RestartSec", "1");
        }
        line(&mut out, "Slice", &unit_name(&self.slice));
        self.limits.render(&mut out);
        self.sandbox.render(&mut out);
        if !self.wanted_by.is_empty() {
            section(&mut out, "Install");
            let units = self.wanted_by.iter().map(|unit| unit_name(unit)).collect::<Vec<_>>();
            line(&mut out, "WantedBy", &units.join(" "));
        }
        out
    }

    fn commands(&self, out: &mut String) {
        let readiness = match self.readiness {
            Readiness::Exec => "exec",
            Readiness::Notify => "notify",
            Readiness::Oneshot => "oneshot",
        };
        line(out, "Type", readiness);
        line(out, "ExecStart", &argv(&self.exec));
        if let Some(reload) = &self.reload {
            line(out, "ExecReload", &reload_argv(reload));
        }
    }

    fn process(&self, out: &mut String) {
        match &self.user {
            Some(user) => {
                line(out, "User", &token(user));
                line(out, "Group", &token(user));
            }
            None => line(out, "DynamicUser", "yes"),
        }
        for (key, value) in &self.environment {
            line(out, "Environment", &quoted(&format!("{key}={value}")));
        }
        if let Some(path) = &self.working_directory {
            line(out, "WorkingDirectory", &plain(&quote::absolute(path)));
        }
        if let Some(path) = &self.runtime_directory {
            line(out, "RuntimeDirectory", &directory(path));
            line(out, "RuntimeDirectoryMode", "0750");
        }
        if let Some(path) = &self.stdin {
            line(out, "StandardInput", &format!("file:{}", plain(path)));
        }
        if let Some(path) = &self.stdout {
            // One open file for both: two would overwrite each other.
            line(out, "StandardOutput", &format!("truncate:{}", plain(path)));
            line(out, "StandardError", "inherit");
        }
    }
}

impl TimerUnit {
    pub fn render(&self) -> String {
        let mut out = String::from(HEADER);
        section(&mut out, "Unit");
        line(&mut out, "Description", &plain(&self.description));
        section(&mut out, "Timer");
        line(&mut out, "OnCalendar", &plain(&self.on_calendar));
        line(&mut out, "RandomizedDelaySec", &self.jitter_s.to_string());
        line(&mut out, "Persistent", "yes");
        section(&mut out, "Install");
        line(&mut out, "WantedBy", "timers.target");
        out
    }
}

impl SocketUnit {
    pub fn render(&self) -> String {
        let mut out = String::from(HEADER);
        section(&mut out, "Unit");
        line(&mut out, "Description", &plain(&self.description));
        section(&mut out, "Socket");
        line(&mut out, "ListenStream", &plain(&self.listen));
        if self.private {
            line(&mut out, "SocketMode", "0600");
        }
        section(&mut out, "Install");
        line(&mut out, "WantedBy", "sockets.target");
        out
    }
}

impl Limits {
    fn render(&self, out: &mut String) {
        if let Some(mb) = self.memory_mb {
            line(out, "MemoryMax", &format!("{mb}M"));
        }
        if let Some(percent) = self.cpu_percent {
            line(out, "CPUQuota", &format!("{percent}%"));
        }
        if let Some(tasks) = self.tasks {
            line(out, "TasksMax", &tasks.to_string());
        }
    }
}

fn section(out: &mut String, name: &str) {
    let gap = if out.len() > HEADER.len() { "\n" } else { "" };
    let _ = writeln!(out, "{gap}[{name}]");
}

fn line(out: &mut String, key: &str, value: &str) {
    let _ = writeln!(out, "{key}={value}");
}
