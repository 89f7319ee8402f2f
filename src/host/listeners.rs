//! Who listens on a port: what the admin wants to know when a server could not start because of it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;

use super::PortError;

/// No machine of ours runs more processes, none of them holds more files: beyond, the search ends
/// without a name.
const PROCESSES: usize = 10_000;
const FILES: usize = 10_000;

/// A port and the program that has it, as far as it can be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    pub port: u16,
    pub by: Option<Program>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    pub name: String,
    pub pid: u32,
    /// The unit it runs in, if that is a service.
    pub unit: Option<String>,
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.by {
            Some(Program { name, pid, .. }) => write!(f, "port {} is taken by `{name}` (PID {pid})", self.port),
            None => write!(f, "port {} is taken", self.port),
        }
    }
}

impl Taken {
    pub fn hint(&self) -> Option<String> {
        let unit = self.by.as_ref()?.unit.as_ref()?;
        Some(format!("systemctl disable --now {unit}"))
    }
}

/// Says in a failed start whose the address is, if the failure speaks of addresses in use
/// (`bind() to 0.0.0.0:80 failed (98: Address already in use)`).
pub fn explain(mut error: PortError) -> PortError {
    // What the program said is among the causes.
    let taken = taken(&ports_in_use(&error.report().to_string()));
    if taken.is_empty() {
        return error;
    }
    let who: Vec<String> = taken.iter().map(ToString::to_string).collect();
    error.message = format!("{}: {}", who.join(", "), error.message);
    error.hint = taken.iter().find_map(Taken::hint).or(error.hint);
    error
}

/// The ports a program complained about: in each line the last `:<number>` before the complaint
/// (nginx, PHP-FPM), else the last behind it (Node: `address already in use :::3000`).
fn ports_in_use(said: &str) -> Vec<u16> {
    let last = |text: &str| {
        text.rsplit(':').find_map(|part| {
            let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
            digits.parse::<u16>().ok().filter(|port| *port > 0)
        })
    };
    let port = |line: &str| {
        let (before, behind) = line.split_once("ddress already in use")?;
        last(before).or_else(|| last(behind))
    };
    let mut ports: Vec<u16> = said.lines().filter_map(port).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// Those of `ports` that somebody listens on. What cannot be read is left out: this only explains an
/// error that is one already.
pub fn taken(ports: &[u16]) -> Vec<Taken> {
    let mut sockets = BTreeMap::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        sockets.extend(listening(&fs::read_to_string(table).unwrap_or_default(), ports));
    }
    if sockets.is_empty() {
        return Vec::new();
    }
    let holders = holders(&sockets);
    let mut taken: Vec<Taken> = Vec::new();
    for (inode, port) in sockets {
        let by = holders.get(&inode).cloned();
        if !taken.iter().any(|known| known.port == port) {
            taken.push(Taken { port, by });
        }
    }
    taken.sort_by_key(|taken| taken.port);
    taken
}

/// Inode of the socket and its port, of every listening socket (state 0A) on one of `ports`; see
/// proc_net_tcp.txt of the kernel.
fn listening(table: &str, ports: &[u16]) -> Vec<(u64, u16)> {
    let row = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, local, _, "0A", _, _, _, _, _, inode, ..] = fields[..] else { return None };
        let port = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
        ports.contains(&port).then_some((inode.parse().ok()?, port))
    };
    table.lines().filter_map(row).collect()
}

/// The first process that holds each socket.
fn holders(sockets: &BTreeMap<u64, u16>) -> BTreeMap<u64, Program> {
    let mut found = BTreeMap::new();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).take(PROCESSES);
    for pid in pids {
        for file in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten().take(FILES) {
            let target = fs::read_link(file.path()).unwrap_or_default();
            let inode = target.to_str().and_then(|t| t.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
            if let Some(inode) = inode.filter(|inode| sockets.contains_key(inode)) {
                found.entry(inode).or_insert_with(|| program(pid));
            }
        }
    }
    found
}

fn program(pid: u32) -> Program {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    Program { name: read("comm").trim().to_owned(), pid, unit: unit(&read("cgroup")) }
}

/// `0::/system.slice/apache2.service`
fn unit(cgroup: &str) -> Option<String> {
    let last = cgroup.lines().last()?.rsplit('/').next()?.trim();
    last.ends_with(".service").then(|| last.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listening_sockets_are_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 15973 1 0\n\
             1: 0100007F:0050 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 15974 1 0\n\
             2: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 15975 1 0\n";
        assert_eq!(listening(table, &[80, 443]), [(15973, 80)]);
    }

    #[test]
    fn a_socket_of_ours_is_found() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let taken = taken(&[port]);
        assert_eq!(taken.len(), 1);
        assert_eq!(taken[0].by.as_ref().unwrap().pid, std::process::id());
        assert!(taken[0].to_string().contains(&format!("port {port} is taken by `")));
    }

    #[test]
    fn ports_are_found_in_complaints() {
        let said = "nginx: [emerg] bind() to 0.0.0.0:80 failed (98: Address already in use)\n\
            nginx: [emerg] bind() to [::]:8080 failed (98: Address already in use)\n\
            Error: listen EADDRINUSE: address already in use :::3000\nstill could not bind()";
        assert_eq!(ports_in_use(said), [80, 3000, 8080]);
        let free = explain(PortError::new("systemd.job-failed", "did not start"));
        assert_eq!(free.message, "did not start");
    }

    #[test]
    fn a_failed_start_says_whose_the_port_is() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let said = format!("did not start:\nbind() to {address} failed (98: Address already in use)");
        let error = explain(PortError::new("systemd.job-failed", said));
        assert!(error.message.starts_with(&format!("port {} is taken by `", address.port())), "{error}");
    }

    #[test]
    fn the_unit_is_the_end_of_the_control_group() {
        assert_eq!(unit("0::/system.slice/apache2.service\n").unwrap(), "apache2.service");
        assert_eq!(unit("0::/user.slice/user-0.slice/session-1.scope\n"), None);
    }
}
