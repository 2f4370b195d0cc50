//! Which address a request comes from, behind proxies too.

use http::HeaderMap;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Addresses looked at in one `X-Forwarded-For`; more are nobody's honest chain of proxies.
const HOPS_MAX: usize = 20;

/// Tells the caller's address. Only proxies that are trusted may say for whom they ask, otherwise
/// everyone could choose whose limit he uses up.
#[derive(Clone, Debug, Default)]
pub struct Clients {
    /// Proxies of ours.
    pub trusted_proxies: Vec<IpNet>,
}

impl Clients {
    /// The nearest address that is no proxy of ours: the peer, or the last such one in
    /// `X-Forwarded-For`. Without a peer (in a test) the unspecified address.
    #[must_use]
    pub fn address(&self, peer: Option<SocketAddr>, headers: &HeaderMap) -> IpAddr {
        let mut address = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| {
            peer.ip().to_canonical()
        });
        if !self.trusts(address) {
            return address;
        }
        let forwarded = headers.get_all("x-forwarded-for").iter();
        let lists: Vec<&str> = forwarded.filter_map(|value| value.to_str().ok()).collect();
        let hops = lists.iter().rev().flat_map(|list| list.rsplit(','));
        for hop in hops.take(HOPS_MAX) {
            let Ok(hop) = hop.trim().parse::<IpAddr>() else {
                break;
            };
            address = hop.to_canonical();
            if !self.trusts(address) {
                break;
            }
        }
        address
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted_proxies
            .iter()
            .any(|net| net.contains(&address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_trusted_proxy_says_for_whom_it_asks() {
        let proxy: SocketAddr = "10.0.0.1:5000".parse().expect("an address");
        let stranger: SocketAddr = "[::ffff:203.0.113.9]:5000".parse().expect("an address");
        let clients = Clients {
            trusted_proxies: vec!["10.0.0.0/8".parse().expect("a net")],
        };
        let mut headers = HeaderMap::new();
        let address = |peer, headers: &HeaderMap| clients.address(Some(peer), headers).to_string();
        assert_eq!(address(proxy, &headers), "10.0.0.1");
        headers.append(
            "x-forwarded-for",
            "1.1.1.1, 198.51.100.7".parse().expect("a header"),
        );
        headers.append("x-forwarded-for", "10.0.0.2".parse().expect("a header"));
        assert_eq!(
            address(proxy, &headers),
            "198.51.100.7",
            "not what the caller claims before it"
        );
        assert_eq!(address(stranger, &headers), "203.0.113.9");
        headers.append("x-forwarded-for", "garbage".parse().expect("a header"));
        assert_eq!(address(proxy, &headers), "10.0.0.1");
    }
}
