//! The functions of SPARQL 1.1, section 17.4, behind one entry point.

use super::strings::TooLong;
use super::value::Value;
use super::{dates, hashes, numbers, strings, terms};

/// A function whose result depends on its arguments alone, or on nothing but chance.
///
/// `BOUND`, `IF`, `COALESCE`, `EXISTS`, `IN`, `BNODE`, `NOW` and `RAND` are not here, since they need more than values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Function {
    /// `isIRI(term)`, also called `isURI`.
    IsIri,
    /// `isBLANK(term)`.
    IsBlank,
    /// `isLITERAL(term)`.
    IsLiteral,
    /// `isNUMERIC(term)`.
    IsNumeric,
    /// `STR(term)`.
    Str,
    /// `LANG(literal)`.
    Lang,
    /// `DATATYPE(literal)`.
    Datatype,
    /// `IRI(term)`, also called `URI`. The caller adds the base IRI of the query, if there is one, as second argument.
    Iri,
    /// `STRDT(string, datatype)`.
    StrDt,
    /// `STRLANG(string, language)`.
    StrLang,
    /// `UUID()`.
    Uuid,
    /// `STRUUID()`.
    StrUuid,
    /// `STRLEN(string)`.
    StrLen,
    /// `SUBSTR(string, start)` and `SUBSTR(string, start, length)`.
    SubStr,
    /// `UCASE(string)`.
    UCase,
    /// `LCASE(string)`.
    LCase,
    /// `STRSTARTS(string, prefix)`.
    StrStarts,
    /// `STRENDS(string, suffix)`.
    StrEnds,
    /// `CONTAINS(string, part)`.
    Contains,
    /// `STRBEFORE(string, part)`.
    StrBefore,
    /// `STRAFTER(string, part)`.
    StrAfter,
    /// `ENCODE_FOR_URI(string)`.
    EncodeForUri,
    /// `CONCAT(string, ...)`.
    Concat,
    /// `langMATCHES(tag, range)`.
    LangMatches,
    /// `REGEX(string, pattern)` and `REGEX(string, pattern, flags)`.
    Regex,
    /// `REPLACE(string, pattern, replacement)` and the same with flags.
    Replace,
    /// `ABS(number)`.
    Abs,
    /// `ROUND(number)`.
    Round,
    /// `CEIL(number)`.
    Ceil,
    /// `FLOOR(number)`.
    Floor,
    /// `YEAR(dateTime)`.
    Year,
    /// `MONTH(dateTime)`.
    Month,
    /// `DAY(dateTime)`.
    Day,
    /// `HOURS(dateTime)`.
    Hours,
    /// `MINUTES(dateTime)`.
    Minutes,
    /// `SECONDS(dateTime)`.
    Seconds,
    /// `TIMEZONE(dateTime)`.
    Timezone,
    /// `TZ(dateTime)`.
    Tz,
    /// `MD5(string)`.
    Md5,
    /// `SHA1(string)`.
    Sha1,
    /// `SHA256(string)`.
    Sha256,
    /// `SHA384(string)`.
    Sha384,
    /// `SHA512(string)`.
    Sha512,
}

/// Calls a function; `None` for arguments of the wrong number, type or form.
///
/// # Errors
/// Where the string that it makes would be too long to be made.
pub fn call(function: Function, arguments: &[Value]) -> Result<Option<Value>, TooLong> {
    Ok(match (function, arguments) {
        (Function::IsIri, [term]) => Some(matches!(term, Value::Iri(_)).into()),
        (Function::IsBlank, [term]) => Some(matches!(term, Value::Blank(_)).into()),
        (Function::IsLiteral, [term]) => Some((!matches!(term, Value::Iri(_) | Value::Blank(_))).into()),
        (Function::IsNumeric, [term]) => Some(terms::is_numeric(term).into()),
        (Function::Str, [term]) => terms::str(term),
        (Function::Lang, [literal]) => terms::lang(literal),
        (Function::Datatype, [literal]) => literal.datatype().map(|datatype| Value::Iri(datatype.into_owned())),
        (Function::Iri, [term]) => terms::iri(term, None),
        (Function::Iri, [term, base]) => terms::iri(term, Some(base)),
        (Function::StrDt, [string, datatype]) => terms::str_dt(string, datatype),
        (Function::StrLang, [string, language]) => terms::str_lang(string, language),
        (Function::Uuid, []) => terms::uuid(),
        (Function::StrUuid, []) => terms::str_uuid(),
        (Function::StrLen, [string]) => strings::length(string),
        (Function::SubStr, [string, start]) => strings::substring(string, start, None),
        (Function::SubStr, [string, start, length]) => strings::substring(string, start, Some(length)),
        (Function::UCase, [string]) => strings::map(string, str::to_uppercase),
        (Function::LCase, [string]) => strings::map(string, str::to_lowercase),
        (Function::StrStarts, [string, part]) => strings::test(string, part, |string, part| string.starts_with(part)),
        (Function::StrEnds, [string, part]) => strings::test(string, part, |string, part| string.ends_with(part)),
        (Function::Contains, [string, part]) => strings::test(string, part, |string, part| string.contains(part)),
        (Function::StrBefore, [string, part]) => strings::before(string, part),
        (Function::StrAfter, [string, part]) => strings::after(string, part),
        (Function::EncodeForUri, [string]) => strings::encode_for_uri(string),
        (Function::Concat, strings) => strings::concat(strings)?,
        (Function::LangMatches, [tag, range]) => strings::lang_matches(tag, range),
        (Function::Regex, [string, pattern]) => strings::regex(string, pattern, None),
        (Function::Regex, [string, pattern, flags]) => strings::regex(string, pattern, Some(flags)),
        (Function::Replace, [string, pattern, replacement]) => strings::replace(string, pattern, replacement, None)?,
        (Function::Replace, [string, pattern, replacement, flags]) => strings::replace(string, pattern, replacement, Some(flags))?,
        (Function::Abs, [number]) => numbers::abs(number),
        (Function::Round, [number]) => numbers::round(number),
        (Function::Ceil, [number]) => numbers::ceil(number),
        (Function::Floor, [number]) => numbers::floor(number),
        (Function::Year, [date]) => dates::year(date),
        (Function::Month, [date]) => dates::month(date),
        (Function::Day, [date]) => dates::day(date),
        (Function::Hours, [time]) => dates::hours(time),
        (Function::Minutes, [time]) => dates::minutes(time),
        (Function::Seconds, [time]) => dates::seconds(time),
        (Function::Timezone, [date]) => dates::timezone(date),
        (Function::Tz, [date]) => dates::tz(date),
        (Function::Md5, [string]) => hashes::md5(string),
        (Function::Sha1, [string]) => hashes::sha1(string),
        (Function::Sha256, [string]) => hashes::sha256(string),
        (Function::Sha384, [string]) => hashes::sha384(string),
        (Function::Sha512, [string]) => hashes::sha512(string),
        _ => None,
    })
}
