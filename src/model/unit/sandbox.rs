//! The default sandbox of everything we run, and its declared exceptions (systemd.exec(5), "Sandboxing").

use super::quote::{absolute, quoted_path, word};
use super::{Network, Sandbox, line};

/// Holds for every unit. `systemd-analyze security` rates the whole at 2.0 or less.
const ALWAYS: &[&str] = &[
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
];

impl Sandbox {
    pub(super) fn render(&self, out: &mut String) {
        for fixed in ALWAYS {
            out.push_str(fixed);
            out.push('\n');
        }
        let capabilities = if self.low_ports { "CAP_NET_BIND_SERVICE" } else { "" };
        line(out, "CapabilityBoundingSet", capabilities);
        line(out, "AmbientCapabilities", capabilities);
        if !self.low_ports {
            // A capability held inside a user namespace does not open a low port outside of it.
            line(out, "PrivateUsers", "yes");
        }
        line(out, "MemoryDenyWriteExecute", if self.write_execute { "no" } else { "yes" });
        self.render_network(out);
        line(out, "SystemCallFilter", "@system-service");
        line(out, "SystemCallFilter", "~@privileged @resources");
        let calls: Vec<_> = self.system_calls.iter().map(|call| word(call)).filter(|call| !call.is_empty()).collect();
        if !calls.is_empty() {
            line(out, "SystemCallFilter", &calls.join(" "));
        }
        line(out, "SystemCallErrorNumber", "EPERM");
        if !self.writable.is_empty() {
            let paths: Vec<_> = self.writable.iter().map(|path| quoted_path(&absolute(path))).collect();
            line(out, "ReadWritePaths", &paths.join(" "));
        }
    }

    fn render_network(&self, out: &mut String) {
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
    }
}
