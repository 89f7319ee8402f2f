//! `socle agent cert …`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use clap::Subcommand;
use serde::Serialize;
use tokio::net::UnixStream;

use super::agent::{failed, told};
use super::print::{BAD, BOLD, DIM, GOOD, WARN, time};
use super::progress::Terminal;
use super::{Exit, print};
use crate::agent::certificates::keeper::CheckedName;
use crate::agent::certificates::tending::{self, Ask, TendError};
use crate::agent::certificates::{Done, KeeperError, serving};
use crate::agent::door::{self, Line, Reply};
use crate::agent::reconcile::{Agent, AgentError};
use crate::agent::{Ledger, real};
use crate::model::Name;
use crate::model::certificate::{KeyType, Origin, Settings, Source, Standing};
use crate::model::document::Document;
use crate::model::report::ErrorReport;

#[derive(Debug, Subcommand)]
pub enum CertCommand {
    /// List the certificates of the sites, their ends and what is wrong with them
    List,
    /// Show all that is known of one certificate
    Show {
        /// Of this instance
        instance: Name,
    },
    /// Order a new certificate now, with a new key
    Renew {
        /// Of this instance
        instance: Name,
    },
    /// Revoke the certificate at its authority, and order another with a new key
    Revoke {
        /// Of this instance
        instance: Name,
        /// Say that somebody else may have the private key
        #[arg(long)]
        key_compromised: bool,
        /// Do it; without this, only show which one
        #[arg(long)]
        yes: bool,
    },
    /// Look whether the names lead here, and what is served (exit 3 if wrong)
    Check {
        /// Of this instance
        instance: Name,
        /// Order one for practice from Let's Encrypt's staging environment; nothing is put in place
        #[arg(long, visible_alias = "dry-run")]
        order: bool,
        /// Practise at this authority instead
        #[arg(long, value_name = "NAME", requires = "order")]
        authority: Option<Name>,
    },
    /// Replace the key of the account at an authority
    RollKey {
        /// The authority's name in the document, or `letsencrypt`
        authority: Name,
    },
}

pub async fn run(agent: &Agent, command: CertCommand, terminal: &Arc<Terminal>, json: bool) -> anyhow::Result<Exit> {
    let document = match Ledger::load(&agent.state).map_err(AgentError::from).and_then(|l| agent.accepted(&l)) {
        Ok(document) => document,
        Err(error) => return failed(error, json),
    };
    match command {
        CertCommand::List => list(&agent.standings(&document), json),
        CertCommand::Show { instance } => show(agent, &document, &instance, json),
        CertCommand::Renew { instance } => asked(agent, Ask::Renew(instance), terminal, json).await,
        CertCommand::Revoke { instance, yes: false, .. } => {
            let exit = show(agent, &document, &instance, json)?;
            print::tell!("nothing was revoked; add --yes to do it");
            Ok(if exit == Exit::Converged { Exit::NotConverged } else { exit })
        }
        CertCommand::Revoke { instance, key_compromised, yes: true } => {
            asked(agent, Ask::Revoke { name: instance, key_compromised }, terminal, json).await
        }
        CertCommand::Check { instance, order, authority } => {
            let practice = order.then(|| authority.unwrap_or_else(|| STAGING.parse().expect("a built-in name")));
            check(agent, &document, &instance, practice, json).await
        }
        CertCommand::RollKey { authority } => {
            let keeper = real::keeper(agent);
            match keeper.roll_key(&agent.certificate_settings(&document).0, &authority).await {
                Ok(()) => print::raw(b"the account has a new key\n").map(|()| Exit::Converged),
                Err(error) => told(&TendError::from(error).report(), json),
            }
        }
    }
}

const STAGING: &str = "letsencrypt-staging";

fn list(standings: &[Standing], json: bool) -> anyhow::Result<Exit> {
    if json {
        print::json(&standings)?;
    } else {
        let mut out = String::new();
        for standing in standings {
            writeln!(out, "{BOLD}{}{BOLD:#}  {}", standing.name, names(standing))?;
            lines(&mut out, standing)?;
        }
        print::raw(out.as_bytes())?;
    }
    Ok(if standings.iter().all(is_well) { Exit::Converged } else { Exit::NotConverged })
}

fn names(standing: &Standing) -> String {
    standing.names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Nothing to be done by anybody.
pub(super) fn is_well(standing: &Standing) -> bool {
    standing.source.is_some()
        && standing.last_error.is_none()
        && standing.served.is_none()
        && standing.alert.is_none()
        && standing.missing.is_empty()
}

/// How a certificate stands, indented.
pub(super) fn lines(out: &mut String, standing: &Standing) -> std::fmt::Result {
    let until = standing.not_after.map(|end| format!("until {}", time(end))).unwrap_or_default();
    let by = standing.authority.as_ref().map(|authority| format!(" from {authority}")).unwrap_or_default();
    let next = standing.next.map(|next| format!(", next attempt {}", time(next))).unwrap_or_default();
    match standing.source {
        None => writeln!(out, "  {WARN}no certificate yet{WARN:#}")?,
        Some(Origin::SelfSigned) => {
            writeln!(out, "  {WARN}self-signed{WARN:#}: browsers warn of it{next}")?;
            if standing.next.is_none() && standing.last_error.is_none() && standing.order.is_none() {
                writeln!(out, "  {BOLD}hint:{BOLD:#} `[certificates]` with `contacts` in the document orders one")?;
            }
        }
        Some(Origin::Files) => writeln!(out, "  {GOOD}certificate{GOOD:#} {until}, brought by you")?,
        Some(Origin::Internal) => writeln!(out, "  {GOOD}certificate{GOOD:#} {until}, of the fleet's own authority")?,
        Some(Origin::Acme) => {
            let next = standing.next.map(|next| format!(", renewed {}", time(next))).unwrap_or_default();
            writeln!(out, "  {GOOD}certificate{GOOD:#} {until}{by}{next}")?;
        }
    }
    if !standing.missing.is_empty() && standing.source.is_some() {
        let missing: Vec<String> = standing.missing.iter().map(ToString::to_string).collect();
        writeln!(out, "  {WARN}not in it{WARN:#}: {}", missing.join(", "))?;
    }
    if let Some(alert) = standing.alert {
        writeln!(out, "  {BAD}problem{BAD:#} {}", alert.words())?;
    }
    for error in standing.last_error.iter().chain(&standing.served) {
        writeln!(out, "  {BAD}problem{BAD:#} {error}")?;
        if let Some(hint) = &error.hint {
            writeln!(out, "  {BOLD}hint:{BOLD:#} {hint}")?;
        }
    }
    Ok(())
}

fn unknown(instance: &Name) -> ErrorReport {
    TendError::NoSuchInstance(instance.clone()).report()
}

fn show(agent: &Agent, document: &Document, instance: &Name, json: bool) -> anyhow::Result<Exit> {
    #[derive(Serialize)]
    struct Shown {
        #[serde(flatten)]
        standing: Standing,
        generation: Option<u64>,
        present: Option<crate::model::certificate::Meta>,
    }
    let Some(standing) = agent.standings(document).into_iter().find(|standing| standing.name == *instance) else {
        return told(&unknown(instance), json);
    };
    let present = agent.certificates().present(instance)?;
    let well = is_well(&standing);
    if json {
        let generation = present.as_ref().map(|present| present.generation);
        print::json(&Shown { standing, generation, present: present.map(|present| present.meta) })?;
    } else {
        let mut out = String::new();
        writeln!(out, "{BOLD}{instance}{BOLD:#}  {}", names(&standing))?;
        lines(&mut out, &standing)?;
        if let Some(present) = present {
            let (meta, directory) = (&present.meta, present.directory.display());
            writeln!(out, "  serial number {}, {}", meta.serial, key(meta.key))?;
            writeln!(out, "  valid since {}, in place since {}", time(meta.not_before), time(meta.issued_at))?;
            if let Some(profile) = &meta.profile {
                writeln!(out, "  profile {profile}")?;
            }
            writeln!(out, "  {DIM}{directory}{DIM:#}")?;
        }
        print::raw(out.as_bytes())?;
    }
    Ok(if well { Exit::Converged } else { Exit::NotConverged })
}

fn key(kind: KeyType) -> &'static str {
    match kind {
        KeyType::P256 => "ECDSA P-256",
        KeyType::Rsa2048 => "RSA 2048",
    }
}

/// Through the daemon if it runs, else here.
async fn asked(agent: &Agent, ask: Ask, terminal: &Arc<Terminal>, json: bool) -> anyhow::Result<Exit> {
    let (Ask::Renew(instance) | Ask::Revoke { name: instance, .. }) = ask.clone() else {
        anyhow::bail!("nothing was asked");
    };
    let done = match UnixStream::connect(agent.host.path(door::SOCKET)).await {
        Ok(stream) => match door::ask(stream, &Line::Certificates { certificates: ask }, terminal).await? {
            Reply::Certificates { certificates } => Ok(certificates),
            Reply::Failed { error } => Err(error),
            _ => anyhow::bail!("the agent's last line was no outcome"),
        },
        Err(_) => {
            let _listening = agent.progress.to(terminal.clone());
            tending::tend_here(agent, &real::keeper(agent), ask, terminal).await
        }
    };
    terminal.finish();
    match done {
        Ok(standings) => {
            let mine: Vec<Standing> = standings.into_iter().filter(|standing| standing.name == instance).collect();
            list(&mine, json)
        }
        Err(error) => told(&error, json),
    }
}

/// What a check found.
#[derive(Serialize)]
struct Checked {
    instance: Name,
    /// Missing: nobody orders this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    names: Option<Vec<CheckedName>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    order: Option<Practice>,
    /// What is wrong with what the site serves.
    served: Option<ErrorReport>,
}

#[derive(Serialize)]
struct Practice {
    authority: Name,
    error: Option<ErrorReport>,
}

async fn check(
    agent: &Agent,
    document: &Document,
    instance: &Name,
    practice: Option<Name>,
    json: bool,
) -> anyhow::Result<Exit> {
    let (settings, faults) = agent.certificate_settings(document);
    for fault in &faults {
        print::error_report(&fault.error);
    }
    let Some(wanted) = settings.certificates.get(instance) else { return told(&unknown(instance), json) };
    let mut checked = Checked { instance: instance.clone(), names: None, order: None, served: None };
    if let Source::Acme(_) = &wanted.source {
        match real::keeper(agent).check(&settings, instance).await {
            Ok(names) => checked.names = Some(names),
            Err(error) => return told(&TendError::from(error).report(), json),
        }
    }
    if let Some(authority) = practice {
        match practise(&real::practice_keeper(agent)?, settings.clone(), instance, &authority).await {
            Ok(error) => checked.order = Some(Practice { authority, error }),
            Err(error) => return told(&TendError::from(error).report(), json),
        }
    }
    checked.served = serving::look(&agent.certificates(), wanted).await.err().map(|error| error.report());
    let names_good = checked.names.iter().flatten().all(|name| name.problem.is_none());
    let order_good = checked.order.as_ref().is_none_or(|order| order.error.is_none());
    if json {
        print::json(&checked)?;
    } else {
        let mut out = String::new();
        for name in checked.names.iter().flatten() {
            match &name.problem {
                None => writeln!(
                    out,
                    "{GOOD}ok{GOOD:#}       {} can be proven, as far as it can be seen from here",
                    name.name
                )?,
                Some(problem) => {
                    writeln!(out, "{BAD}problem{BAD:#}  {problem}")?;
                    writeln!(out, "    {BOLD}hint:{BOLD:#} {}", name.hint.as_deref().unwrap_or_default())?;
                }
            }
        }
        match &checked.order {
            Some(Practice { authority, error: None }) => {
                writeln!(out, "{GOOD}ok{GOOD:#}       {authority} gave a certificate; it was thrown away")?
            }
            Some(Practice { authority, error: Some(error) }) => {
                writeln!(out, "{BAD}problem{BAD:#}  {authority}: {error}")?
            }
            None => {}
        }
        match &checked.served {
            None => writeln!(out, "{GOOD}ok{GOOD:#}       the site serves the certificate that is in place")?,
            Some(error) => writeln!(out, "{BAD}problem{BAD:#}  {error}")?,
        }
        print::raw(out.as_bytes())?;
    }
    Ok(if names_good && order_good && checked.served.is_none() { Exit::Converged } else { Exit::NotConverged })
}

/// An order from its beginning to its end, of which nothing stays.
async fn practise(
    scratch: &real::Practice,
    mut settings: Settings,
    instance: &Name,
    authority: &Name,
) -> Result<Option<ErrorReport>, KeeperError> {
    settings.certificates.retain(|name, _| name == instance);
    if !settings.authorities.contains_key(authority) {
        return Err(KeeperError::UnknownAuthority(authority.clone()));
    }
    for wanted in settings.certificates.values_mut() {
        match &mut wanted.source {
            Source::Acme(acme) => acme.authorities = vec![authority.clone()],
            _ => return Err(KeeperError::NotOrdered(instance.clone())),
        }
    }
    let outcomes = scratch.keeper.tend_all(&settings, &BTreeSet::from([instance.clone()])).await?;
    Ok(outcomes.into_iter().find_map(|outcome| match outcome.done {
        Done::Failed { error, .. } => Some(error),
        _ => None,
    }))
}
