//! A program of the admin's: `PROGRAM ARGUMENTS… publish|withdraw NAME VALUE`, without a shell, with the secrets in
//! its environment. Code 0 is success.

use std::time::Duration;

use super::error::{Act, DnsError, quoted};
use super::lookup::{RecordName, text_of};
use crate::host::process::{self, Command, ProcessError};
use crate::model::Secret;

pub struct Program {
    pub(super) command: Vec<String>,
    pub(super) environment: Vec<(String, Secret)>,
    pub(super) timeout: Duration,
}

impl Program {
    pub(super) async fn change(&self, act: Act, name: &RecordName, value: &str) -> Result<(), DnsError> {
        let name = text_of(name);
        let (program, args) = self.command.split_first().expect("checked: there is a program");
        let command = Command::new(program).args(args).args([act.word(), &name, value]).timeout(self.timeout);
        let with = |command: Command, (variable, secret): &(String, Secret)| command.env(variable, secret.expose());
        let done = process::run_ok(self.environment.iter().fold(command, with)).await;
        done.map(drop).map_err(|source| DnsError::Program { act, name, source: self.clean(source) })
    }

    /// A program may print what it was given.
    fn clean(&self, error: ProcessError) -> ProcessError {
        match error {
            ProcessError::Failed { program, exit, tail } => {
                let tail = quoted(&tail, self.environment.iter().map(|(_, secret)| secret));
                ProcessError::Failed { program, exit, tail }
            }
            other => other,
        }
    }
}
