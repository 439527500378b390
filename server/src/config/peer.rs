//! The settings of a node among others, checked against each other.

use pyralog_models::{PeerConfig, PeerTls};

use super::Config;

/// The files that prove nodes to each other: all of them, or none.
const TLS: [&str; 3] = ["peer-tls-cert", "peer-tls-key", "peer-tls-ca"];

/// The node among others, if it is to be one. The error is wrong usage.
pub fn of(config: &Config) -> Result<Option<PeerConfig>, String> {
    if config.text("peer-addr").is_none() {
        let others = ["peer-advertise", "join", "node-id"].into_iter().chain(TLS);
        return match others.into_iter().find(|name| config.text(name).is_some()) {
            Some(name) => Err(format!("{name} is for a node of a cluster: give --peer-addr too")),
            None => Ok(None),
        };
    }
    let listen = config.address("peer-addr")?;
    let addresses = |name| {
        let list = config
            .text(name)
            .unwrap_or_default()
            .split(',')
            .map(str::trim)
            .filter(|text| !text.is_empty());
        let well = |text: &str| {
            text.rsplit_once(':')
                .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        };
        list.map(|text| match well(text) {
            true => Ok(text.to_owned()),
            false => Err(format!("{name}: `{text}` is not host:port")),
        })
        .collect::<Result<Vec<String>, String>>()
    };
    let advertise = addresses("peer-advertise")?;
    if listen.ip().is_unspecified() && advertise.is_empty() {
        return Err(format!(
            "peer-addr {listen} is no address that others can call: give --peer-advertise HOST:PORT"
        ));
    }
    Ok(Some(PeerConfig {
        listen,
        advertise: advertise.into_iter().next(),
        join: addresses("join")?,
        node_id: config.text("node-id").map(|_| config.number("node-id")).transpose()?,
        tls: tls(config)?,
        snapshot_rate: config.bytes("snapshot-rate")?,
    }))
}

fn tls(config: &Config) -> Result<Option<PeerTls>, String> {
    match TLS.map(|name| config.path(name)) {
        [Some(certificate), Some(key), Some(authority)] => Ok(Some(PeerTls {
            certificate,
            key,
            authority,
        })),
        [None, None, None] => Ok(None),
        given => {
            let missing = TLS.iter().zip(&given).filter(|(_, path)| path.is_none());
            let missing = missing.map(|(name, _)| *name).collect::<Vec<_>>().join(" and ");
            Err(format!("TLS between nodes needs three files: give {missing} too"))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::CommandSettings;

    fn peer(flags: &[(&'static str, &str)]) -> Result<Option<PeerConfig>, String> {
        let flags: Vec<_> = flags.iter().map(|(name, value)| (*name, Some((*value).to_owned()))).collect();
        of(&Config::resolve(CommandSettings::of("serve").unwrap(), &flags, |_| None, None))
    }

    #[test]
    fn a_node_that_is_alone_has_no_settings_of_one_among_others() {
        assert!(peer(&[]).unwrap().is_none());
        for name in ["join", "peer-advertise", "node-id", "peer-tls-cert", "peer-tls-ca"] {
            let problem = peer(&[(name, "h:1")]).unwrap_err();
            assert!(problem.contains(name) && problem.contains("--peer-addr"), "{problem}");
        }
    }

    #[test]
    fn the_files_of_tls_are_all_given_or_none() {
        let (address, cert, key, ca) = (
            ("peer-addr", "127.0.0.1:1"),
            ("peer-tls-cert", "c.pem"),
            ("peer-tls-key", "k.pem"),
            ("peer-tls-ca", "a.pem"),
        );
        assert!(peer(&[address]).unwrap().unwrap().tls.is_none());
        let tls = peer(&[address, cert, key, ca]).unwrap().unwrap().tls.unwrap();
        assert_eq!(
            (tls.certificate, tls.key, tls.authority),
            ("c.pem".into(), "k.pem".into(), "a.pem".into())
        );
        for (given, missing) in [
            (&[address, cert][..], "give peer-tls-key and peer-tls-ca too"),
            (&[address, key, ca], "give peer-tls-cert too"),
            (&[address, cert, key, ("peer-tls-ca", "")], "give peer-tls-ca too"),
        ] {
            let problem = peer(given).unwrap_err();
            assert!(problem.contains(missing) && !problem.contains('\n'), "{problem}");
        }
    }
}
