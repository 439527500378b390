//! The headers with which a client names a request, so that it can send it again without it being carried out again.

use pyralog_models::RequestName;
use pyralog_models::request::Tried;
use uuid::Uuid;

/// The client: a UUID that it made at random.
pub const CLIENT: &str = "pyralog-client";
/// The client's number for the request.
pub const SERIAL: &str = "pyralog-serial";
/// The client sends nothing below this number again. Left out: nothing is settled.
pub const SETTLED: &str = "pyralog-settled";
/// How often the client has sent the request, this time included. 1: it comes only once so far, which is cheaper in a cluster.
pub const ATTEMPT: &str = "pyralog-attempt";
/// In an answer: where the client's next write is not passed on to another node.
pub const LEADER: &str = "pyralog-leader";

/// The name in a request's headers; `None` where it has none. An error says which header is wrong.
pub fn read<'a>(header: impl Fn(&'static str) -> Option<&'a str>) -> Result<Option<RequestName>, String> {
    let (Some(client), Some(serial)) = (header(CLIENT), header(SERIAL)) else {
        return match (header(CLIENT), header(SERIAL)) {
            (None, None) => Ok(None),
            _ => Err(format!("a request's name needs both headers, {CLIENT} and {SERIAL}")),
        };
    };
    let client = Uuid::try_parse(client).map_err(|_| format!("{CLIENT} is not a UUID"))?;
    let number = |name: &str, text: &str| text.parse::<u64>().map_err(|_| format!("{name} is not a number"));
    let (serial, settled) = (
        number(SERIAL, serial)?,
        header(SETTLED).map_or(Ok(0), |settled| number(SETTLED, settled))?,
    );
    if settled > serial {
        return Err(format!("{SETTLED} is above {SERIAL}, so this request counts as settled"));
    }
    let attempt = header(ATTEMPT).map_or(Ok(2), |attempt| number(ATTEMPT, attempt))?;
    Ok(Some(RequestName {
        client: client.as_u128(),
        serial,
        settled,
        tried: match attempt {
            1 => Tried::First,
            _ => Tried::Again,
        },
    }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn of(headers: &[(&'static str, &'static str)]) -> Result<Option<RequestName>, String> {
        read(|name| headers.iter().find(|(header, _)| *header == name).map(|(_, value)| *value))
    }

    #[test]
    fn names_are_whole_or_refused() {
        let client = "00000000-0000-0000-0000-000000000007";
        let name = of(&[(CLIENT, client), (SERIAL, "5"), (SETTLED, "3")]).unwrap().unwrap();
        assert_eq!((name.client, name.serial, name.settled), (7, 5, 3));
        assert_eq!(of(&[(CLIENT, client), (SERIAL, "5")]).unwrap().unwrap().settled, 0);
        assert_eq!(of(&[]).unwrap(), None);
        for (attempt, tried) in [("1", Tried::First), ("2", Tried::Again)] {
            let name = of(&[(CLIENT, client), (SERIAL, "5"), (ATTEMPT, attempt)]).unwrap().unwrap();
            assert_eq!(name.tried, tried);
        }
        assert_eq!(name.tried, Tried::Again, "nobody says that it is the first");
        for wrong in [
            &[(CLIENT, client)][..],
            &[(SERIAL, "5")],
            &[(CLIENT, "me"), (SERIAL, "5")],
            &[(CLIENT, client), (SERIAL, "five")],
            &[(CLIENT, client), (SERIAL, "5"), (ATTEMPT, "one")],
            &[(CLIENT, client), (SERIAL, "5"), (SETTLED, "6")],
        ] {
            assert!(of(wrong).is_err(), "{wrong:?}");
        }
    }
}
