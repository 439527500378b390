//! Why TLS between two nodes fails, in words that say what to do.

use std::io;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError, Error};

/// Why two nodes do not speak, seen from one of them; `it` is the other. `None`: an error of the network.
pub fn of(error: &io::Error) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    Some(match error {
        Error::InvalidCertificate(problem) => format!("its certificate {}", of_certificate(problem)),
        Error::NoCertificatesPresented => "it shows no certificate; give it one (peer-tls-cert, peer-tls-key)".to_owned(),
        Error::AlertReceived(alert) => of_alert(*alert),
        Error::InvalidMessage(_) => {
            "it does not speak TLS, and this node does; set peer-tls-cert, peer-tls-key and peer-tls-ca at both, or at neither".to_owned()
        }
        error => format!("TLS fails: {error}"),
    })
}

/// What is wrong with the node's own certificate, to stand behind its name.
pub fn of_own(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(problem) => of_certificate(problem),
        error => format!("cannot be used: {error}"),
    }
}

fn of_certificate(problem: &CertificateError) -> String {
    match problem {
        CertificateError::ExpiredContext { time, not_after } => {
            let since = time.as_secs().saturating_sub(not_after.as_secs());
            format!("expired {} ago; renew it", rounded(Duration::from_secs(since)))
        }
        CertificateError::Expired => "has expired; renew it".to_owned(),
        CertificateError::NotValidYetContext { time, not_before } => {
            let until = not_before.as_secs().saturating_sub(time.as_secs());
            format!(
                "is valid only in {}; correct the clocks, or make another one",
                rounded(Duration::from_secs(until))
            )
        }
        // The last two: by an authority of the same name with another key.
        CertificateError::UnknownIssuer
        | CertificateError::BadSignature
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "is not signed by an authority that this node knows; sign it by one that is in peer-tls-ca, or add its authority there"
                .to_owned()
        }
        CertificateError::NotValidForNameContext { expected, presented } => format!(
            "is not for {}, only for [{}]; make one that is, or correct the address",
            expected.to_str(),
            presented.join(", ")
        ),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "is not for servers and clients both; make one with the extended key usages serverAuth and clientAuth".to_owned()
        }
        problem => format!("cannot be used: {problem}"),
    }
}

/// What the other node said as it ended TLS.
fn of_alert(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            "it does not know the authority of this node's certificate; set the same peer-tls-ca at both".to_owned()
        }
        AlertDescription::CertificateExpired => {
            "it finds this node's certificate expired or not yet valid; renew it, or correct the clocks".to_owned()
        }
        AlertDescription::BadCertificate => {
            "it does not find the host that it called in this node's certificate; make one that is for it, or correct the address"
                .to_owned()
        }
        AlertDescription::UnsupportedCertificate => {
            "it finds that this node's certificate is not for servers and clients both; make one with the extended key usages \
             serverAuth and clientAuth"
                .to_owned()
        }
        alert => format!("it ended TLS with the alert {alert:?}; its log says more"),
    }
}

/// A duration in its largest unit.
fn rounded(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}
