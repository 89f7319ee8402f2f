//! The manual pages, one a command: what the command line says of itself, and what is true of all of it.

use std::path::Path;

use clap::{Command, CommandFactory};
use clap_mangen::Man;

/// In roff(7). Data of the program itself: no word of a user gets in here.
const ALL: &str = r".SH EXIT STATUS
.TP
0
everything is as wanted
.TP
1
an unexpected error
.TP
2
the arguments or the document are wrong; nothing was changed
.TP
3
a plan has changes, or an apply could not bring about everything
.SH ENVIRONMENT
.TP
.B NO_COLOR
if it is set, nothing is coloured
";

const AGENT: &str = r".SH FILES
.TP
.I /etc/socle/agent.toml
how this server is looked after
.TP
.I /etc/socle/recipes
recipes of your own, one directory each
.TP
.I /var/lib/socle
what was accepted, how far it came, dumps and secrets; of root alone
.TP
.I /srv/socle/NAME
an instance: its releases, its configuration, its data
.TP
.I /etc/systemd/system/socle-*
the units that are looked after
.TP
.I /etc/nginx/sites-available/socle-*
the sites
";

const CONTROLLER: &str = r".SH FILES
.TP
.I /etc/socle/controller.toml
how this controller is reached, and where its database is
.TP
.I /var/lib/socle-controller
the database, and the keys of the fleet: who has them can give every server orders
.TP
.I /run/socle-controller/api.sock
where operators on this machine are answered: root and the group socle
";

const EXAMPLES: &str = r".SH EXAMPLES
.nf
socle catalog show wordpress
socle agent check blog.toml
socle agent plan blog.toml
socle agent apply blog.toml
socle agent status
.fi
";

/// Writes `socle.1`, `socle-agent.1` and so on.
pub fn write(directory: &Path) -> anyhow::Result<()> {
    let mut root = super::Cli::command().disable_help_subcommand(true);
    root.build();
    pages(&root, directory)
}

fn pages(command: &Command, directory: &Path) -> anyhow::Result<()> {
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        pages(inner, directory)?;
    }
    let name = command.get_display_name().unwrap_or(command.get_name());
    let source = concat!("socle ", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone()).title(name).source(source).manual("Socle");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.get_subcommands().any(|inner| !inner.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    page.extend_from_slice(ALL.as_bytes());
    if name.starts_with("socle-agent") || name == "socle" {
        page.extend_from_slice(AGENT.as_bytes());
    }
    if name.starts_with("socle-controller") || name.starts_with("socle-fleet") {
        page.extend_from_slice(CONTROLLER.as_bytes());
    }
    if name == "socle" {
        page.extend_from_slice(EXAMPLES.as_bytes());
    }
    Ok(crate::durable::write(&directory.join(format!("{name}.1")), &page, 0o644)?)
}
