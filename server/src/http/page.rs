//! The query page at `/`: an editor of SPARQL in the browser (YASGUI), from this binary alone.

use actix_web::http::header::{self, ContentEncoding, HeaderValue};
use actix_web::middleware::Compress;
use actix_web::{HttpRequest, HttpResponse, web};

use super::error::Problem;
use super::{State, resource};

/// A file of the page: its path, its type, its bytes, and whether these are compressed.
type Asset = (&'static str, &'static str, &'static [u8], bool);

const ASSETS: [Asset; 4] = [
    (
        "/assets/yasgui.min.js",
        "text/javascript; charset=utf-8",
        include_bytes!("../../assets/yasgui/yasgui.min.js.gz"),
        true,
    ),
    (
        "/assets/yasgui.min.css",
        "text/css; charset=utf-8",
        include_bytes!("../../assets/yasgui/yasgui.min.css.gz"),
        true,
    ),
    (
        "/assets/query_page.js",
        "text/javascript; charset=utf-8",
        include_bytes!("../../assets/query_page.js"),
        false,
    ),
    (
        "/assets/query_page.css",
        "text/css; charset=utf-8",
        include_bytes!("../../assets/query_page.css"),
        false,
    ),
];
const PAGE: &str = include_str!("../../assets/query_page.html");
/// The page asks nobody but this server. YASGUI sets styles of elements and has small pictures in its own.
const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; \
                      object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'";

/// The paths.
pub fn routes(config: &mut web::ServiceConfig) {
    config.service(resource("/", web::get().to(page)));
    for (path, media, bytes, compressed) in ASSETS {
        let route = web::get().to(move |request: HttpRequest| async move { asset(&request, media, bytes, compressed) });
        config.service(resource(path, route));
    }
    config.service(
        web::resource("/rdf")
            .wrap(Compress::default())
            .route(web::get().to(datasets))
            .default_service(web::to(super::method_not_allowed)),
    );
}

async fn page() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .body(PAGE)
}

/// A file; one that is compressed for who takes it so, which every browser does.
fn asset(request: &HttpRequest, media: &'static str, bytes: &'static [u8], compressed: bool) -> Result<HttpResponse, Problem> {
    let mut answer = HttpResponse::Ok();
    answer
        .content_type(media)
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        // A newer binary has newer files.
        .insert_header((header::CACHE_CONTROL, HeaderValue::from_static("no-cache")));
    if !compressed {
        return Ok(answer.body(bytes));
    }
    let takes_gzip = request
        .headers()
        .get_all(header::ACCEPT_ENCODING)
        .any(|value| value.to_str().is_ok_and(|value| value.contains("gzip")));
    if takes_gzip {
        return Ok(answer.insert_header(ContentEncoding::Gzip).body(bytes));
    }
    let mut plain = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(bytes), &mut plain)
        .map_err(|error| pyralog_models::Error::internal(format!("a file of the page cannot be read: {error}")))?;
    Ok(answer.body(plain))
}

/// The datasets: `{"datasets": ["kb"]}`.
async fn datasets(state: State) -> Result<HttpResponse, Problem> {
    let names = state.database.datasets().await?;
    Ok(HttpResponse::Ok().json(serde_json::json!({ "datasets": names })))
}
