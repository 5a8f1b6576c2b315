//! Which addresses may be connected to. Judged on the resolved address at every connect, and the connection goes to
//! that very address: a name that resolves to something else a moment later gains nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::config::Register;

/// The `[register]` rules and the gateway's own listeners.
#[derive(Clone, Debug)]
pub struct TargetGuard {
    hosts: Vec<HostPattern>,
    loopback: bool,
    private: bool,
    own: Vec<SocketAddr>,
}

impl TargetGuard {
    /// The rules of `register`; `own` are the addresses that the gateway's listeners are bound to, with their true
    /// ports.
    #[must_use]
    pub fn new(register: &Register, own: &[SocketAddr]) -> Self {
        Self {
            hosts: register.allow_hosts.iter().map(|host| HostPattern::new(host)).collect(),
            loopback: register.allow_loopback,
            private: register.allow_private,
            own: own.iter().map(|addr| SocketAddr::new(addr.ip().to_canonical(), addr.port())).collect(),
        }
    }

    /// Judges the host of a registered service, as its URL has it. An empty list allows none, but for this machine's own
    /// name and addresses where loopback is allowed: the address is judged at each connect.
    ///
    /// # Errors
    /// When the host is on the list neither by name nor by pattern.
    pub fn host(&self, host: &str) -> Result<(), TargetRefused> {
        let host = normal(host);
        let here = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        if self.loopback && here {
            return Ok(());
        }
        if self.hosts.iter().any(|pattern| pattern.matches(&host)) { Ok(()) } else { Err(TargetRefused::Host) }
    }

    /// Judges an address to connect to. A service of the file (`trusted`) may go anywhere but to the gateway itself and
    /// to addresses that no service can have.
    ///
    /// # Errors
    /// With the first reason found.
    pub fn address(&self, addr: SocketAddr, trusted: bool) -> Result<(), TargetRefused> {
        for ip in readings(addr.ip()) {
            self.judge(ip, addr.port(), trusted)?;
        }
        Ok(())
    }

    fn judge(&self, ip: IpAddr, port: u16, trusted: bool) -> Result<(), TargetRefused> {
        if is_link_local(ip) {
            return Err(TargetRefused::LinkLocal);
        }
        if is_nowhere(ip) {
            return Err(TargetRefused::Nowhere);
        }
        if self.is_own(ip, port) {
            return Err(TargetRefused::Own);
        }
        if trusted {
            return Ok(());
        }
        if is_metadata(ip) {
            return Err(TargetRefused::LinkLocal);
        }
        if ip.is_loopback() {
            return if self.loopback { Ok(()) } else { Err(TargetRefused::Loopback) };
        }
        if is_private(ip) && !self.private {
            return Err(TargetRefused::Private);
        }
        Ok(())
    }

    fn is_own(&self, ip: IpAddr, port: u16) -> bool {
        self.own.iter().any(|own| own.port() == port && (own.ip() == ip || (own.ip().is_unspecified() && is_here(ip))))
    }
}

/// Why an address may not be connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetRefused {
    /// The host is not on the list.
    #[error("the host is not allowed\nadd it to `allow_hosts` in `[register]`")]
    Host,
    /// A listener of the gateway.
    #[error("the address is one of the gateway's own listeners\nname the service itself")]
    Own,
    /// Link-local, or where a cloud keeps its machines' credentials.
    #[error("the address is link-local, where metadata services are")]
    LinkLocal,
    /// Unspecified, multicast, broadcast or reserved.
    #[error("the address cannot be a service's")]
    Nowhere,
    /// Loopback.
    #[error(
        "the address is a loopback address\nset `allow_loopback` in `[register]`, or declare the service in the file"
    )]
    Loopback,
    /// A private network.
    #[error(
        "the address is of a private network\nset `allow_private` in `[register]`, or declare the service in the file"
    )]
    Private,
}

/// A host name, or `*.` and a suffix that is matched by whole labels.
#[derive(Clone, Debug)]
enum HostPattern {
    Any,
    Exactly(String),
    Below(String),
}

impl HostPattern {
    fn new(written: &str) -> Self {
        let host = normal(written);
        match host.strip_prefix('*') {
            Some("") => Self::Any,
            Some(suffix) if suffix.starts_with('.') && suffix.len() > 1 => Self::Below(suffix.to_owned()),
            // A star elsewhere is no pattern, and no host has one: it matches nothing.
            _ => Self::Exactly(host),
        }
    }

    fn matches(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(name) => host == name,
            Self::Below(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
        }
    }
}

/// Lower case, without a root dot or the brackets of an IPv6 literal.
fn normal(host: &str) -> String {
    let host = host.strip_suffix('.').unwrap_or(host);
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.to_ascii_lowercase()
}

/// The address itself, unmapped, and the IPv4 address that a translator or tunnel would send it on to, if any.
fn readings(ip: IpAddr) -> impl Iterator<Item = IpAddr> {
    let embedded = match ip.to_canonical() {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => embedded(v6).map(IpAddr::V4),
    };
    [Some(ip.to_canonical()), embedded].into_iter().flatten()
}

/// NAT64 (RFC 6052, RFC 8215), 6to4 (RFC 3056) and the old IPv4-compatible form (RFC 4291 §2.5.5.1).
fn embedded(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let last = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 1, _, _, _, high, low] => Some(last(high, low)),
        [0x2002, high, low, ..] => Some(last(high, low)),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => Some(last(high, low)),
        _ => None,
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// Where no service can be: 0.0.0.0/8 reaches this very machine on some systems.
fn is_nowhere(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let [first, ..] = v4.octets();
            first == 0 || first >= 240 || v4.is_multicast()
        }
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_multicast(),
    }
}

/// Metadata services that are not link-local: AWS (IPv6), Alibaba, Azure, Oracle.
fn is_metadata(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            matches!(v4.octets(), [100, 100, 100, 200] | [168, 63, 129, 16] | [192, 0, 0, 192])
        }
        IpAddr::V6(v6) => v6.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254],
    }
}

/// Private, shared (RFC 6598), protocol (RFC 6890) and benchmark (RFC 2544) networks; unique and site local.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            v4.is_private() || matches!(v4.octets(), [100, 64..=127, ..] | [192, 0, 0, _] | [198, 18 | 19, ..])
        }
        IpAddr::V6(v6) => {
            let [first, ..] = v6.segments();
            v6.is_unique_local() || first & 0xffc0 == 0xfec0
        }
    }
}

/// Whether the address is one of this machine's: only such a one can be bound.
fn is_here(ip: IpAddr) -> bool {
    ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(hosts: &[&str], loopback: bool, private: bool, own: &[&str]) -> TargetGuard {
        let register = Register {
            allow_hosts: hosts.iter().map(|&host| host.to_owned()).collect(),
            allow_loopback: loopback,
            allow_private: private,
        };
        TargetGuard::new(&register, &own.iter().map(|addr| addr.parse().unwrap()).collect::<Vec<_>>())
    }

    fn verdict(guard: &TargetGuard, addr: &str, trusted: bool) -> Option<TargetRefused> {
        guard.address(addr.parse().unwrap(), trusted).err()
    }

    #[test]
    fn hosts_match_by_name_or_by_whole_labels_of_a_suffix() {
        let guard = guard(&["*.Example.org", "one.test", "[::1]", "a*.test"], false, false, &[]);
        for host in ["a.example.org", "A.B.EXAMPLE.ORG.", "one.test", "ONE.test", "::1", "[::1]"] {
            assert_eq!(guard.host(host), Ok(()), "{host}");
        }
        for host in ["example.org", "badexample.org", "two.one.test", "a.example.org.evil.test", "", "ab.test"] {
            assert_eq!(guard.host(host), Err(TargetRefused::Host), "{host}");
        }
    }

    #[test]
    fn an_empty_list_allows_no_host() {
        assert_eq!(guard(&[], true, true, &[]).host("a.test"), Err(TargetRefused::Host));
        assert_eq!(guard(&["*"], true, true, &[]).host("a.test"), Ok(()));
    }

    #[test]
    fn where_loopback_is_allowed_its_names_need_no_entry() {
        for host in ["localhost", "127.0.0.1", "[::1]"] {
            assert_eq!(guard(&[], true, false, &[]).host(host), Ok(()), "{host}");
            assert_eq!(guard(&[], false, false, &[]).host(host), Err(TargetRefused::Host), "{host}");
        }
        assert_eq!(guard(&[], true, false, &[]).host("localhost.evil.test"), Err(TargetRefused::Host));
    }

    #[test]
    fn link_local_and_impossible_addresses_are_refused_to_everybody_in_every_form() {
        let guard = guard(&["*"], true, true, &[]);
        let cases = [
            ("169.254.169.254:80", TargetRefused::LinkLocal),
            ("[::ffff:169.254.169.254]:80", TargetRefused::LinkLocal),
            ("[64:ff9b::a9fe:a9fe]:80", TargetRefused::LinkLocal),
            ("[2002:a9fe:a9fe::1]:80", TargetRefused::LinkLocal),
            ("[::a9fe:a9fe]:80", TargetRefused::LinkLocal),
            ("[fe80::1]:80", TargetRefused::LinkLocal),
            ("0.0.0.0:80", TargetRefused::Nowhere),
            ("0.1.2.3:80", TargetRefused::Nowhere),
            ("[::]:80", TargetRefused::Nowhere),
            ("[::ffff:0.0.0.0]:80", TargetRefused::Nowhere),
            ("224.0.0.1:80", TargetRefused::Nowhere),
            ("255.255.255.255:80", TargetRefused::Nowhere),
            ("[ff02::1]:80", TargetRefused::Nowhere),
        ];
        for (addr, reason) in cases {
            assert_eq!(verdict(&guard, addr, false), Some(reason), "{addr}");
            assert_eq!(verdict(&guard, addr, true), Some(reason), "{addr}, trusted");
        }
    }

    #[test]
    fn loopback_and_private_networks_need_their_flag_unless_the_service_is_of_the_file() {
        let (closed, open) = (guard(&["*"], false, false, &[]), guard(&["*"], true, true, &[]));
        let cases = [
            ("127.0.0.1:80", TargetRefused::Loopback),
            ("127.9.9.9:80", TargetRefused::Loopback),
            ("[::1]:80", TargetRefused::Loopback),
            ("[::ffff:127.0.0.1]:80", TargetRefused::Loopback),
            ("[64:ff9b::7f00:1]:80", TargetRefused::Loopback),
            ("10.1.2.3:80", TargetRefused::Private),
            ("172.16.0.1:80", TargetRefused::Private),
            ("192.168.1.1:80", TargetRefused::Private),
            ("[::ffff:192.168.1.1]:80", TargetRefused::Private),
            ("100.64.0.1:80", TargetRefused::Private),
            ("198.18.0.1:80", TargetRefused::Private),
            ("[fd00::1]:80", TargetRefused::Private),
            ("[fec0::1]:80", TargetRefused::Private),
        ];
        for (addr, reason) in cases {
            assert_eq!(verdict(&closed, addr, false), Some(reason), "{addr}");
            assert_eq!(verdict(&open, addr, false), None, "{addr}, allowed");
            assert_eq!(verdict(&closed, addr, true), None, "{addr}, trusted");
        }
        for addr in ["93.184.216.34:443", "[2606:2800:220:1::1]:443", "172.32.0.1:80", "100.128.0.1:80"] {
            assert_eq!(verdict(&closed, addr, false), None, "{addr}");
        }
    }

    #[test]
    fn metadata_services_are_refused_to_registered_services_whatever_the_flags() {
        let guard = guard(&["*"], true, true, &[]);
        for addr in ["100.100.100.200:80", "168.63.129.16:80", "192.0.0.192:80", "[fd00:ec2::254]:80"] {
            assert_eq!(verdict(&guard, addr, false), Some(TargetRefused::LinkLocal), "{addr}");
        }
    }

    #[test]
    fn own_listeners_are_refused_to_everybody_and_other_ports_are_not() {
        let one = guard(&["*"], true, true, &["127.0.0.1:8080", "[::]:8081"]);
        for (addr, refused) in [
            ("127.0.0.1:8080", true),
            ("[::ffff:127.0.0.1]:8080", true),
            ("127.0.0.1:8081", true),
            ("127.0.0.2:8081", true),
            ("[::1]:8081", true),
            ("127.0.0.1:8082", false),
            ("127.0.0.2:8080", false),
            ("93.184.216.34:8081", false),
        ] {
            let expected = refused.then_some(TargetRefused::Own);
            assert_eq!(verdict(&one, addr, true), expected, "{addr}, trusted");
            assert_eq!(verdict(&one, addr, false), expected, "{addr}");
        }
    }
}
