//! Functions of networks and addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::Value;

use crate::BakeError;
use crate::error::invalid;
use crate::value::{number, text};

/// Calls a function of this family; `None` if it is of another one.
pub fn call(name: &str, arguments: &[Value]) -> Option<Result<Value, BakeError>> {
    Some(match (name, arguments) {
        ("cidrhost", [prefix, host]) => {
            network(prefix).and_then(|network| Ok(network.host(whole(host)?)?.to_string().into()))
        }
        ("cidrnetmask", [prefix]) => network(prefix).and_then(|network| match network.bits {
            32 => Ok(network.address(network.mask()).to_string().into()),
            _ => Err(invalid!("only IPv4 networks have a netmask")),
        }),
        ("cidrsubnet", [prefix, bits, number]) => network(prefix)
            .and_then(|network| Ok(network.subnet(small(bits)?, whole(number)?)?.text().into())),
        ("cidrsubnets", [prefix, bits @ ..]) => network(prefix).and_then(|network| {
            let bits: Vec<u32> = bits.iter().map(small).collect::<Result<_, _>>()?;
            let subnets = network.subnets(&bits)?;
            Ok(subnets.iter().map(|subnet| Value::from(subnet.text())).collect())
        }),
        ("cidrhost" | "cidrnetmask" | "cidrsubnet" | "cidrsubnets", _) => {
            Err(invalid!("it does not take {} arguments", arguments.len()))
        }
        _ => return None,
    })
}

/// An address range: `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cidr {
    /// Its first address.
    first: u128,
    /// The length of its prefix.
    length: u32,
    /// The length of its addresses: 32 or 128.
    bits: u32,
}

fn network(value: &Value) -> Result<Cidr, BakeError> {
    let written = text(value)?;
    let wrong = || BakeError::wrong_text(&written, "network as 10.0.0.0/8");
    let (address, length) = written.split_once('/').ok_or_else(wrong)?;
    let (address, bits) = match address.parse().map_err(|_| wrong())? {
        IpAddr::V4(address) => (u128::from(u32::from(address)), 32),
        IpAddr::V6(address) => (u128::from(address), 128),
    };
    let length = length.parse().ok().filter(|length| *length <= bits).ok_or_else(wrong)?;
    let network = Cidr { first: 0, length, bits };
    Ok(Cidr { first: address & network.mask(), ..network })
}

impl Cidr {
    /// All bits that an address of its kind can have.
    fn all(self) -> u128 {
        u128::MAX >> (128 - self.bits)
    }

    fn mask(self) -> u128 {
        self.all() & !self.last_host()
    }

    /// The largest number of a host in it.
    fn last_host(self) -> u128 {
        u128::MAX.checked_shr(128 - (self.bits - self.length)).unwrap_or(0)
    }

    fn address(self, bits: u128) -> IpAddr {
        match u32::try_from(bits) {
            Ok(bits) if self.bits == 32 => Ipv4Addr::from(bits).into(),
            _ => Ipv6Addr::from(bits).into(),
        }
    }

    fn text(self) -> String {
        format!("{}/{}", self.address(self.first), self.length)
    }

    /// A host by its number; negative ones count from the end.
    fn host(self, number: i64) -> Result<IpAddr, BakeError> {
        let last = self.last_host();
        let wanted = match u128::try_from(number) {
            Ok(number) => Some(number).filter(|number| *number <= last),
            Err(_) => last.checked_sub(u128::from(number.unsigned_abs()) - 1),
        };
        let host =
            wanted.ok_or_else(|| invalid!("a prefix of {} has no host {number}", self.length))?;
        Ok(self.address(self.first | host))
    }

    /// The network of a longer prefix.
    fn longer(self, bits: u32) -> Result<Self, BakeError> {
        let length = self.length + bits;
        if bits > 32 || length > self.bits {
            return Err(invalid!("a prefix of {} cannot be {bits} bits longer", self.length));
        }
        Ok(Self { length, ..self })
    }

    /// One of the networks in it.
    fn subnet(self, bits: u32, number: i64) -> Result<Self, BakeError> {
        let subnet = self.longer(bits)?;
        let number = u128::try_from(number).ok().filter(|number| *number < 1_u128 << bits);
        let number = number.ok_or_else(|| invalid!("{bits} bits have no such number"))?;
        let shift = subnet.bits - subnet.length;
        Ok(Self { first: self.first | number.checked_shl(shift).unwrap_or(0), ..subnet })
    }

    /// Networks in it, one behind the other.
    fn subnets(self, bits: &[u32]) -> Result<Vec<Self>, BakeError> {
        let (mut subnets, mut next) = (Vec::new(), Some(self.first));
        for bits in bits {
            if *bits == 0 {
                return Err(invalid!("a prefix is at least one bit longer"));
            }
            let longer = self.longer(*bits)?;
            let last = longer.last_host();
            let full = || invalid!("there is no room for another prefix of {}", longer.length);
            // It begins where one of its size can.
            let first = next.and_then(|next| next.checked_add(last)).ok_or_else(full)? & !last;
            if first & self.mask() != self.first || first > self.all() {
                return Err(full());
            }
            subnets.push(Self { first, ..longer });
            next = first.checked_add(last).and_then(|last| last.checked_add(1));
        }
        Ok(subnets)
    }
}

/// A whole number.
fn whole(value: &Value) -> Result<i64, BakeError> {
    let number = number(value)?;
    if number.fract() == 0.0 && number.abs() < 9e15 {
        #[expect(clippy::cast_possible_truncation, reason = "in range")]
        return Ok(number as i64);
    }
    Err(BakeError::wrong_text(number, "whole number"))
}

/// A number of bits.
fn small(value: &Value) -> Result<u32, BakeError> {
    let bits = whole(value)?;
    u32::try_from(bits)
        .ok()
        .filter(|bits| *bits <= 128)
        .ok_or_else(|| invalid!("{bits} is no number of bits"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn called(name: &str, arguments: Value) -> Result<Value, BakeError> {
        super::call(name, arguments.as_array().unwrap()).unwrap()
    }

    #[test]
    fn networks_are_cut() {
        for (name, arguments, expected) in [
            ("cidrhost", json!(["10.12.127.0/20", 16]), json!("10.12.112.16")),
            ("cidrhost", json!(["10.12.127.0/20", -1]), json!("10.12.127.255")),
            ("cidrhost", json!(["fd00:fd12:3456:7890::/72", 34]), json!("fd00:fd12:3456:7890::22")),
            ("cidrhost", json!(["1.2.3.4/32", 0]), json!("1.2.3.4")),
            ("cidrnetmask", json!(["172.16.0.0/12"]), json!("255.240.0.0")),
            ("cidrnetmask", json!(["1.2.3.4/0"]), json!("0.0.0.0")),
            ("cidrsubnet", json!(["172.16.0.0/12", 4, 2]), json!("172.18.0.0/16")),
            ("cidrsubnet", json!(["fd00::/56", 16, 162]), json!("fd00::a200:0:0:0/72")),
            (
                "cidrsubnets",
                json!(["10.1.0.0/16", 4, 4, 8, 4]),
                json!(["10.1.0.0/20", "10.1.16.0/20", "10.1.32.0/24", "10.1.48.0/20"]),
            ),
            ("cidrsubnets", json!(["10.1.0.0/16"]), json!([])),
        ] {
            assert_eq!(called(name, arguments.clone()).unwrap(), expected, "{name} {arguments}");
        }
        for (name, arguments) in [
            ("cidrhost", json!(["10.0.0.0/30", 4])),
            ("cidrhost", json!(["10.0.0.0/30", -5])),
            ("cidrhost", json!(["10.0.0.0", 1])),
            ("cidrnetmask", json!(["fd00::/8"])),
            ("cidrsubnet", json!(["10.0.0.0/30", 3, 0])),
            ("cidrsubnet", json!(["10.0.0.0/8", 2, 4])),
            ("cidrsubnets", json!(["10.0.0.0/30", 1, 1, 1])),
            ("cidrsubnets", json!(["10.0.0.0/30", 0])),
        ] {
            assert!(called(name, arguments.clone()).is_err(), "{name} {arguments}");
        }
    }
}
