//! An authority for tests, and what it signs. The tests within the crate use it too.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};

/// Who signs.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// What a certificate is made with.
pub struct Wish<'a> {
    /// Hosts that it is for.
    pub hosts: &'a [&'a str],
    /// Until when it is valid, from now on.
    pub valid: Duration,
    /// Whether it is for clients, and not for servers only.
    pub clients: bool,
}

impl Default for Wish<'_> {
    fn default() -> Self {
        Wish {
            hosts: &["127.0.0.1", "localhost"],
            valid: Duration::from_secs(3600),
            clients: true,
        }
    }
}

impl Authority {
    /// A new one; others may have its name.
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Authority { issuer }
    }

    /// Its certificate.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Writes a node's certificate, its key, and the authority's certificate to a folder, over what is there.
    pub fn sign(&self, dir: &Path, wish: &Wish<'_>) -> [PathBuf; 3] {
        let mut params = CertificateParams::new(wish.hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "node");
        params.not_before = (SystemTime::now() - Duration::from_secs(3600)).into();
        params.not_after = (SystemTime::now() + wish.valid).into();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        if wish.clients {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let files = ["node.pem", "node.key", "ca.pem"].map(|name| dir.join(name));
        for (path, text) in files.iter().zip([certificate.pem(), key.serialize_pem(), self.pem()]) {
            fs::write(path, text).unwrap();
        }
        files
    }
}
