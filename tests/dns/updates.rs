//! RFC 2136 with a key, on BIND.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use socle::host::Dns;
use socle::host::dns::{ProviderDns, Resolver};
use socle::model::Domain;
use socle::model::certificate::Provider;

use crate::provider;
use crate::servers::{KEY, KEY_NAME, Servers};

const SOON: Duration = Duration::from_secs(30);

fn with_key(servers: &Servers, key: &str) -> Provider {
    let server = servers.address().to_string();
    provider("rfc2136", &[("server", &server), ("key_name", KEY_NAME)], &[("key", key)], &[])
}

async fn values(resolver: &Resolver, server: SocketAddr, domain: &Domain) -> BTreeSet<String> {
    let name = resolver.challenge_name(domain).await.unwrap();
    resolver.txt_at(server, &name).await.unwrap().into_iter().collect()
}

fn set(values: &[&str]) -> BTreeSet<String> {
    values.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn values_come_and_go_one_by_one_at_every_name_server() {
    let servers = Servers::start(true).await;
    let (dns, resolver, ours) = (ProviderDns::new(servers.resolver()), servers.resolver(), with_key(&servers, KEY));
    let blog: Domain = "blog.example.org".parse().unwrap();
    // A domain and its wildcard need two values at one name; whoever repeats an act does no harm.
    for value in ["one", "two", "one"] {
        dns.publish(&ours, &blog, value).await.unwrap();
    }
    for value in ["one", "two"] {
        dns.propagated(&blog, value, SOON).await.unwrap();
    }
    for server in [servers.address(), servers.secondary()] {
        assert_eq!(values(&resolver, server, &blog).await, set(&["one", "two"]));
    }
    for value in ["one", "one", "never published"] {
        dns.withdraw(&ours, &blog, value).await.unwrap();
    }
    assert_eq!(values(&resolver, servers.address(), &blog).await, set(&["two"]));
}

#[tokio::test]
async fn an_alias_leads_into_another_zone() {
    let servers = Servers::start(true).await;
    let dns = ProviderDns::new(servers.resolver());
    let www: Domain = "www.example.org".parse().unwrap();
    dns.publish(&with_key(&servers, KEY), &www, "proof").await.unwrap();
    dns.propagated(&www, "proof", SOON).await.unwrap();
    let name = servers.resolver().challenge_name(&www).await.unwrap();
    assert_eq!(name.to_string(), "www.proofs.example.net.");
    assert_eq!(servers.resolver().txt_at(servers.secondary(), &name).await.unwrap(), ["proof"]);
}

#[tokio::test]
async fn a_name_server_that_lags_is_named() {
    let servers = Servers::start(false).await;
    let dns = ProviderDns::new(servers.resolver());
    let blog: Domain = "blog.example.org".parse().unwrap();
    dns.publish(&with_key(&servers, KEY), &blog, "proof").await.unwrap();
    let error = dns.propagated(&blog, "proof", Duration::from_secs(2)).await.unwrap_err();
    let said = error.report().to_string();
    assert!(said.contains("ns2.example.org") && !said.contains("ns1."), "{said}");
    assert!(error.retryable);
}

#[tokio::test]
async fn a_wrong_key_is_refused_and_never_shown() {
    let servers = Servers::start(true).await;
    let dns = ProviderDns::new(servers.resolver());
    let blog: Domain = "blog.example.org".parse().unwrap();
    let other = "YW5vdGhlciBrZXkgdGhhdCBub2JvZHkga25vd3MgaGU=";
    let error = dns.publish(&with_key(&servers, other), &blog, "proof").await.unwrap_err();
    let said = error.report().to_string();
    assert!(!said.contains(other), "{said}");
    assert_eq!(values(&servers.resolver(), servers.address(), &blog).await, set(&[]));
    // All that is wrong with the settings, at once, and nothing is asked.
    let bad = provider("rfc2136", &[("servre", "x"), ("algorithm", "hmac-md5")], &[("key", "%%%")], &[]);
    let said = dns.publish(&bad, &blog, "proof").await.unwrap_err().report().to_string();
    for part in ["server", "key_name", "servre", "hmac-md5", "base64"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}
