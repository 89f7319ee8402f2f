//! Units of systemd as typed fields, and their text.
//!
//! A unit is never written from free text: every value is one of these fields, quoted here. See
//! systemd.service(5), systemd.exec(5), systemd.resource-control(5). Debian 12 has systemd 252, so
//! nothing newer is used.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceUnit {
    pub description: String,
    pub after: Vec<String>,
    pub readiness: Readiness,
    pub exec: Vec<String>,
    pub reload: Option<Vec<String>>,
    /// None: `DynamicUser=yes`.
    pub user: Option<String>,
    pub environment: BTreeMap<String, String>,
    pub working_directory: Option<String>,
    /// `RuntimeDirectory=` (below /run), made and removed with the service, mode 0750.
    pub runtime_directory: Option<String>,
    pub sandbox: Sandbox,
    pub limits: Limits,
    /// `Slice=`
    pub slice: String,
    /// Seconds to start, and to stop.
    pub timeout_s: u32,
    /// Started at boot.
    pub wanted_by: Vec<String>,
    /// Standard input and output as files, for tasks.
    pub stdin: Option<String>,
    pub stdout: Option<String>,
    /// Digest of everything the process reads at start but systemd does not: its release, its
    /// configuration. [`ServiceUnit::render`] makes each start leave it below
    /// [`INPUTS_DIR`], so what a running process was started with can be seen, whoever started it.
    pub inputs: Option<Digest>,
}

/// Where a started service leaves the digest of its inputs, as a symbolic link named like the unit.
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
}

const HEADER: &str = "# Managed by socle. Put changes into a drop-in (systemctl edit), they are respected.\n";

impl ServiceUnit {
    pub fn render(&self, name: &str) -> String {
        let mut out = String::from(HEADER);
        section(&mut out, "Unit");
        line(&mut out, "Description", &escape(&self.description));
        if !self.after.is_empty() {
            line(&mut out, "After", &self.after.join(" "));
            line(&mut out, "Wants", &self.after.join(" "));
        }
        section(&mut out, "Service");
        line(
            &mut out,
            "Type",
            match self.readiness {
                Readiness::Exec => "exec",
                Readiness::Notify => "notify",
                Readiness::Oneshot => "oneshot",
            },
        );
        line(&mut out, "ExecStart", &argv(&self.exec));
        if let Some(reload) = &self.reload {
            line(&mut out, "ExecReload", &argv(reload));
        }
        if let Some(inputs) = &self.inputs {
            // `+`: outside the sandbox, as root; `-`: a failure does not fail the service.
            line(&mut out, "ExecStartPost", &format!("-+/usr/bin/ln -sfn {inputs} {INPUTS_DIR}/{name}"));
        }
        match &self.user {
            Some(user) => {
                line(&mut out, "User", user);
                line(&mut out, "Group", user);
            }
            None => line(&mut out, "DynamicUser", "yes"),
        }
        for (key, value) in &self.environment {
            line(&mut out, "Environment", &quote(&format!("{key}={value}")));
        }
        if let Some(directory) = &self.working_directory {
            line(&mut out, "WorkingDirectory", &escape(directory));
        }
        if let Some(directory) = &self.runtime_directory {
            line(&mut out, "RuntimeDirectory", directory);
            line(&mut out, "RuntimeDirectoryMode", "0750");
        }
        if let Some(stdin) = &self.stdin {
            line(&mut out, "StandardInput", &format!("file:{stdin}"));
        }
        if let Some(stdout) = &self.stdout {
            line(&mut out, "StandardOutput", &format!("file:{stdout}"));
            line(&mut out, "StandardError", &format!("file:{stdout}"));
        }
        line(&mut out, "TimeoutStartSec", &self.timeout_s.to_string());
        line(&mut out, "TimeoutStopSec", &self.timeout_s.to_string());
        if self.readiness != Readiness::Oneshot {
            line(&mut out, "Restart", "on-failure");
            line(&mut out, "RestartSec", "1");
        }
        line(&mut out, "Slice", &self.slice);
        self.limits.render(&mut out);
        self.sandbox.render(&mut out);
        if !self.wanted_by.is_empty() {
            section(&mut out, "Install");
            line(&mut out, "WantedBy", &self.wanted_by.join(" "));
        }
        out
    }
}

impl TimerUnit {
    pub fn render(&self) -> String {
        let mut out = String::from(HEADER);
        section(&mut out, "Unit");
        line(&mut out, "Description", &escape(&self.description));
        section(&mut out, "Timer");
        line(&mut out, "OnCalendar", &self.on_calendar);
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
        line(&mut out, "Description", &escape(&self.description));
        section(&mut out, "Socket");
        line(&mut out, "ListenStream", &escape(&self.listen));
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

impl Sandbox {
    fn render(&self, out: &mut String) {
        for fixed in [
            "UMask=0027",
            "NoNewPrivileges=yes",
            "ProtectSystem=strict",
            "ProtectHome=yes",
            "ProtectClock=yes",
            "ProtectControlGroups=yes",
            "ProtectHostname=yes",
            "ProtectKernelLogs=yes",
            "ProtectKernelModules=yes",
            "ProtectKernelTunables=yes",
            "ProtectProc=invisible",
            "ProcSubset=pid",
            "PrivateDevices=yes",
            "PrivateIPC=yes",
            "PrivateTmp=yes",
            "RemoveIPC=yes",
            "LockPersonality=yes",
            "RestrictNamespaces=yes",
            "RestrictRealtime=yes",
            "RestrictSUIDSGID=yes",
            "KeyringMode=private",
            "SystemCallArchitectures=native",
        ] {
            out.push_str(fixed);
            out.push('\n');
        }
        line(out, "CapabilityBoundingSet", if self.low_ports { "CAP_NET_BIND_SERVICE" } else { "" });
        line(out, "AmbientCapabilities", if self.low_ports { "CAP_NET_BIND_SERVICE" } else { "" });
        if !self.low_ports {
            line(out, "PrivateUsers", "yes");
        }
        line(out, "MemoryDenyWriteExecute", if self.write_execute { "no" } else { "yes" });
        match self.network {
            Network::None => {
                line(out, "PrivateNetwork", "yes");
                line(out, "IPAddressDeny", "any");
                line(out, "RestrictAddressFamilies", "AF_UNIX");
            }
            Network::Loopback => {
                line(out, "IPAddressDeny", "any");
                line(out, "IPAddressAllow", "localhost");
                line(out, "RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6");
            }
            Network::Full => line(out, "RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6"),
        }
        line(out, "SystemCallFilter", "@system-service");
        line(out, "SystemCallFilter", "~@privileged @resources");
        if !self.system_calls.is_empty() {
            line(out, "SystemCallFilter", &self.system_calls.join(" "));
        }
        line(out, "SystemCallErrorNumber", "EPERM");
        if !self.writable.is_empty() {
            let paths: Vec<_> = self.writable.iter().map(|path| quote(path)).collect();
            line(out, "ReadWritePaths", &paths.join(" "));
        }
    }
}

fn section(out: &mut String, name: &str) {
    let gap = if out.ends_with('\n') && out.lines().count() > 1 { "\n" } else { "" };
    let _ = writeln!(out, "{gap}[{name}]");
}

fn line(out: &mut String, key: &str, value: &str) {
    let _ = writeln!(out, "{key}={value}");
}

/// A value systemd reads as written: `%` begins a specifier, a line break would begin a new
/// directive.
fn escape(text: &str) -> String {
    text.replace('%', "%%").replace(['\n', '\r'], " ")
}

/// A word of a list of words (systemd.syntax(7), "Quoting").
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '%' => out.push_str("%%"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let mut bytes = [0; 4];
                for byte in c.encode_utf8(&mut bytes).bytes() {
                    let _ = write!(out, "\\x{byte:02x}");
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A command line. In `Exec*=` a `$` would begin a variable, so it is doubled.
fn argv(words: &[String]) -> String {
    words.iter().map(|word| quote(&word.replace('$', "$$"))).collect::<Vec<_>>().join(" ")
}
