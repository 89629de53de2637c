//! The generated files of `/etc`: what BuildKit writes into a container's `hosts` and `resolv.conf`.

use std::fmt::Write;
use std::net::IpAddr;

/// BuildKit's name servers of last resort.
const FALLBACK: [&str; 4] = ["8.8.8.8", "8.8.4.4", "2001:4860:4860::8888", "2001:4860:4860::8844"];

/// `/etc/hosts`: the loopback names, then the additional ones.
pub fn hosts(hostname: &str, extra: &[(String, IpAddr)]) -> String {
    let mut text =
        format!("127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for (name, address) in extra {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{address}\t{name}");
    }
    text
}

/// `/etc/resolv.conf`, from the host's, if it has any.
///
/// The container shares the host's network, so name servers on loopback addresses work and stay.
pub fn resolv_conf(host: Option<&str>) -> String {
    let host = host.unwrap_or_default();
    if host.lines().any(|line| line.split_ascii_whitespace().next() == Some("nameserver")) {
        return host.to_owned();
    }
    let mut text = host.to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for address in FALLBACK {
        let _ = writeln!(text, "nameserver {address}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_names_the_machine_and_the_additional_hosts() {
        let text = hosts("box", &[("db.example".into(), "10.0.0.7".parse().unwrap())]);
        assert_eq!(
            text,
            "127.0.0.1\tlocalhost box\n::1\tlocalhost ip6-localhost ip6-loopback\n10.0.0.7\tdb.example\n"
        );
    }

    #[test]
    fn name_servers_of_last_resort_only_without_others() {
        assert_eq!(resolv_conf(Some("nameserver 127.0.0.53\n")), "nameserver 127.0.0.53\n");
        assert!(
            resolv_conf(Some("search a.example"))
                .starts_with("search a.example\nnameserver 8.8.8.8\n")
        );
        assert!(resolv_conf(None).starts_with("nameserver 8.8.8.8\n"));
    }
}
