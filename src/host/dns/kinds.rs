//! The providers that the `dns-update` library speaks to, each with what it asks for. One line is one provider.
//!
//! Not here: those that need more than a few words (keys of several lines), and those that cannot hold two values at one
//! name, as a domain and its wildcard need them. They are reached through `exec`.

use std::time::Duration;

use dns_update::providers::azuredns::{AzureDnsConfig, AzureEnvironment};
use dns_update::providers::bluecatv2::BluecatV2Config;
use dns_update::providers::edgedns::EdgeDnsConfig;
use dns_update::providers::infoblox::InfobloxConfig;
use dns_update::providers::joker::JokerAuth;
use dns_update::providers::lightsail::LightsailConfig;
use dns_update::providers::route53::Route53Config;
use dns_update::providers::volcengine::VolcengineConfig;
use dns_update::{DnsUpdater, Error, Result};

use Need::{Optional, Required};

/// Of one request; an act is a few.
const REQUEST: Option<Duration> = Some(Duration::from_secs(30));

/// What a provider is made of: its settings and secrets, in the order of its [`Kind`].
pub(super) struct Words<'a> {
    pub settings: Vec<Option<&'a str>>,
    pub secrets: Vec<&'a str>,
}

impl Words<'_> {
    /// A setting that is [`Need::Required`].
    fn text(&self, at: usize) -> &str {
        self.settings[at].unwrap_or_default()
    }

    fn owned(&self, at: usize) -> Option<String> {
        self.settings[at].map(str::to_owned)
    }
}

/// A provider the library knows.
pub(super) struct Kind {
    pub name: &'static str,
    pub settings: &'static [(&'static str, Need)],
    pub secrets: &'static [&'static str],
    pub make: fn(&Words<'_>) -> Result<DnsUpdater>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    Required,
    Optional,
}

type Make = fn(&Words<'_>) -> Result<DnsUpdater>;

const fn token(name: &'static str, make: Make) -> Kind {
    Kind { name, settings: &[], secrets: &["token"], make }
}

const fn pair(name: &'static str, make: Make) -> Kind {
    Kind { name, settings: &[], secrets: &["key", "secret"], make }
}

const fn user(name: &'static str, secrets: &'static [&'static str; 1], make: Make) -> Kind {
    Kind { name, settings: &[("user", Required)], secrets, make }
}

/// A client of a big provider: a key with a name, in a region.
const fn access(name: &'static str, region: &'static [(&'static str, Need)], make: Make) -> Kind {
    Kind { name, settings: region, secrets: &["access_key", "secret_key"], make }
}

const fn kind(
    name: &'static str,
    settings: &'static [(&'static str, Need)],
    secrets: &'static [&'static str],
    make: Make,
) -> Kind {
    Kind { name, settings, secrets, make }
}

const NONE: Option<&str> = None;

/// By name.
pub(super) const KINDS: &[Kind] = &[
    access("alidns", &[("region", Optional)], |w| {
        DnsUpdater::new_alidns(w.secrets[0], w.secrets[1], w.settings[0], NONE, NONE, REQUEST)
    }),
    token("arvancloud", |w| DnsUpdater::new_arvancloud(w.secrets[0], REQUEST)),
    kind("autodns", &[("user", Required), ("context", Optional)], &["password"], |w| {
        let context = w.settings[1].map(str::parse).transpose();
        let context = context.map_err(|_| Error::Client("`context` is no number".to_owned()))?;
        DnsUpdater::new_autodns(w.text(0), w.secrets[0], context, REQUEST)
    }),
    kind(
        "azuredns",
        &[("tenant", Required), ("client", Required), ("subscription", Required), ("resource_group", Required)],
        &["secret"],
        |w| {
            DnsUpdater::new_azuredns(AzureDnsConfig {
                tenant_id: w.text(0).to_owned(),
                client_id: w.text(1).to_owned(),
                client_secret: w.secrets[0].to_owned(),
                subscription_id: w.text(2).to_owned(),
                resource_group: w.text(3).to_owned(),
                environment: AzureEnvironment::Public,
                request_timeout: REQUEST,
            })
        },
    ),
    access("baiducloud", &[], |w| DnsUpdater::new_baiducloud(w.secrets[0], w.secrets[1], REQUEST)),
    kind(
        "bluecat",
        &[("endpoint", Required), ("user", Required), ("configuration", Required), ("view", Required)],
        &["password"],
        |w| {
            DnsUpdater::new_bluecatv2(BluecatV2Config {
                server_url: w.text(0).to_owned(),
                username: w.text(1).to_owned(),
                password: w.secrets[0].to_owned(),
                config_name: w.text(2).to_owned(),
                view_name: w.text(3).to_owned(),
                skip_deploy: false,
                request_timeout: REQUEST,
            })
        },
    ),
    token("bunny", |w| DnsUpdater::new_bunny(w.secrets[0], REQUEST)),
    token("cloudflare", |w| DnsUpdater::new_cloudflare(w.secrets[0], REQUEST)),
    kind("cloudns", &[("id", Required)], &["password"], |w| {
        DnsUpdater::new_cloudns(w.settings[0], NONE, w.secrets[0], REQUEST)
    }),
    pair("constellix", |w| DnsUpdater::new_constellix(w.secrets[0], w.secrets[1], REQUEST)),
    kind("cpanel", &[("endpoint", Required), ("user", Required)], &["token"], |w| {
        DnsUpdater::new_cpanel(w.text(0), w.text(1), w.secrets[0], REQUEST)
    }),
    token("desec", |w| DnsUpdater::new_desec(w.secrets[0], REQUEST)),
    token("digitalocean", |w| DnsUpdater::new_digitalocean(w.secrets[0], REQUEST)),
    kind("dnsimple", &[("account", Required)], &["token"], |w| {
        DnsUpdater::new_dnsimple(w.secrets[0], w.text(0), REQUEST)
    }),
    pair("dnsmadeeasy", |w| DnsUpdater::new_dnsmadeeasy(w.secrets[0], w.secrets[1], REQUEST)),
    kind("domeneshop", &[], &["token", "secret"], |w| DnsUpdater::new_domeneshop(w.secrets[0], w.secrets[1], REQUEST)),
    token("dreamhost", |w| DnsUpdater::new_dreamhost(w.secrets[0], REQUEST)),
    token("dynu", |w| DnsUpdater::new_dynu(w.secrets[0], REQUEST)),
    kind("easydns", &[], &["token", "key"], |w| DnsUpdater::new_easydns(w.secrets[0], w.secrets[1], REQUEST)),
    kind("edgedns", &[("host", Required)], &["client_token", "client_secret", "access_token"], |w| {
        DnsUpdater::new_edgedns(EdgeDnsConfig {
            host: w.text(0).to_owned(),
            client_token: w.secrets[0].to_owned(),
            client_secret: w.secrets[1].to_owned(),
            access_token: w.secrets[2].to_owned(),
            account_switch_key: None,
            request_timeout: REQUEST,
        })
    }),
    pair("exoscale", |w| DnsUpdater::new_exoscale(w.secrets[0], w.secrets[1], REQUEST)),
    token("gandi", |w| DnsUpdater::new_gandiv5(w.secrets[0], REQUEST)),
    token("gcore", |w| DnsUpdater::new_gcore(w.secrets[0], REQUEST)),
    user("glesys", &["key"], |w| DnsUpdater::new_glesys(w.text(0), w.secrets[0], REQUEST)),
    pair("godaddy", |w| DnsUpdater::new_godaddy(w.secrets[0], w.secrets[1], REQUEST)),
    token("hetzner", |w| DnsUpdater::new_hetzner(w.secrets[0], REQUEST)),
    token("hostingde", |w| DnsUpdater::new_hostingde(w.secrets[0], REQUEST)),
    token("hostinger", |w| DnsUpdater::new_hostinger(w.secrets[0], REQUEST)),
    access("huaweicloud", &[("region", Required)], |w| {
        DnsUpdater::new_huaweicloud(w.secrets[0], w.secrets[1], w.text(0), REQUEST)
    }),
    user("ibmcloud", &["key"], |w| DnsUpdater::new_ibmcloud(w.text(0), w.secrets[0], REQUEST)),
    kind("infoblox", &[("host", Required), ("user", Required), ("view", Optional)], &["password"], |w| {
        DnsUpdater::new_infoblox(InfobloxConfig {
            host: w.text(0).to_owned(),
            port: None,
            username: w.text(1).to_owned(),
            password: w.secrets[0].to_owned(),
            wapi_version: None,
            dns_view: w.owned(2),
            request_timeout: REQUEST,
        })
    }),
    token("infomaniak", |w| DnsUpdater::new_infomaniak(w.secrets[0], REQUEST)),
    user("inwx", &["password"], |w| DnsUpdater::new_inwx(w.text(0), w.secrets[0], false, REQUEST)),
    token("ionos", |w| DnsUpdater::new_ionos(w.secrets[0], REQUEST)),
    token("ipv64", |w| DnsUpdater::new_ipv64(w.secrets[0], REQUEST)),
    token("joker", |w| DnsUpdater::new_joker(JokerAuth::api_key(w.secrets[0]), REQUEST)),
    access("lightsail", &[("region", Optional)], |w| {
        DnsUpdater::new_lightsail(LightsailConfig {
            access_key_id: w.secrets[0].to_owned(),
            secret_access_key: w.secrets[1].to_owned(),
            session_token: None,
            region: w.owned(0),
            domain: None,
            request_timeout: REQUEST,
        })
    }),
    token("linode", |w| DnsUpdater::new_linode(w.secrets[0], REQUEST)),
    user("luadns", &["token"], |w| DnsUpdater::new_luadns(w.text(0), w.secrets[0], REQUEST)),
    user("mythicbeasts", &["password"], |w| DnsUpdater::new_mythicbeasts(w.text(0), w.secrets[0], REQUEST)),
    kind("namecheap", &[("user", Required), ("client_ip", Required)], &["key"], |w| {
        DnsUpdater::new_namecheap(w.text(0), w.secrets[0], w.text(1), NONE, REQUEST)
    }),
    user("namedotcom", &["token"], |w| DnsUpdater::new_namedotcom(w.text(0), w.secrets[0], REQUEST)),
    token("namesilo", |w| DnsUpdater::new_namesilo(w.secrets[0], REQUEST)),
    kind("netcup", &[("customer", Required)], &["key", "password"], |w| {
        DnsUpdater::new_netcup(w.text(0), w.secrets[0], w.secrets[1], REQUEST)
    }),
    token("netlify", |w| DnsUpdater::new_netlify(w.secrets[0], REQUEST)),
    access("nifcloud", &[], |w| DnsUpdater::new_nifcloud(w.secrets[0], w.secrets[1], REQUEST)),
    token("ns1", |w| DnsUpdater::new_ns1(w.secrets[0], REQUEST)),
    pair("porkbun", |w| DnsUpdater::new_porkbun(w.secrets[0], w.secrets[1], REQUEST)),
    kind("powerdns", &[("endpoint", Required), ("server", Optional)], &["key"], |w| {
        DnsUpdater::new_pdns(w.secrets[0], w.settings[0], w.settings[1], REQUEST)
    }),
    access("route53", &[("region", Optional), ("hosted_zone", Optional)], |w| {
        DnsUpdater::new_route53(Route53Config {
            access_key_id: w.secrets[0].to_owned(),
            secret_access_key: w.secrets[1].to_owned(),
            session_token: None,
            region: w.owned(0),
            hosted_zone_id: w.owned(1),
            private_zone_only: None,
            endpoint: None,
        })
    }),
    token("safedns", |w| DnsUpdater::new_safedns(w.secrets[0], REQUEST)),
    token("scaleway", |w| DnsUpdater::new_scaleway(w.secrets[0], REQUEST)),
    kind("selectel", &[("user", Required), ("account", Required), ("project", Required)], &["password"], |w| {
        DnsUpdater::new_selectel(w.text(0), w.secrets[0], w.text(1), w.text(2), REQUEST)
    }),
    kind("simply", &[("account", Required)], &["key"], |w| DnsUpdater::new_simplycom(w.text(0), w.secrets[0], REQUEST)),
    pair("spaceship", |w| DnsUpdater::new_spaceship(w.secrets[0], w.secrets[1], REQUEST)),
    access("tencentcloud", &[("region", Optional)], |w| {
        DnsUpdater::new_tencentcloud(w.secrets[0], w.secrets[1], w.settings[0], NONE, REQUEST)
    }),
    kind("ultradns", &[("user", Required), ("endpoint", Optional)], &["password"], |w| {
        DnsUpdater::new_ultradns(w.text(0), w.secrets[0], w.owned(1), REQUEST)
    }),
    kind("vercel", &[("team", Optional)], &["token"], |w| DnsUpdater::new_vercel(w.secrets[0], w.settings[0], REQUEST)),
    access("volcengine", &[("region", Optional)], |w| {
        DnsUpdater::new_volcengine(VolcengineConfig {
            access_key: w.secrets[0].to_owned(),
            secret_key: w.secrets[1].to_owned(),
            region: w.owned(0),
            host: None,
            scheme: None,
            request_timeout: REQUEST,
        })
    }),
    token("vultr", |w| DnsUpdater::new_vultr(w.secrets[0], REQUEST)),
    pair("websupport", |w| DnsUpdater::new_websupport(w.secrets[0], w.secrets[1], REQUEST)),
    user("zoneeu", &["key"], |w| DnsUpdater::new_zoneeu(w.text(0), w.secrets[0], REQUEST)),
];
