//! What an S3 service means by a refusal.
//!
//! Promises a class for every answer, and for the well-known ones what to change. Pure: text in, verdict out.
//! Source of the codes: Amazon S3 API Reference, "Error responses", and what compatible stores answer.

use std::fmt;

use aws_sdk_s3::config::http::HttpResponse;
use chrono::{DateTime, NaiveDateTime, SecondsFormat, Utc};

use crate::base::class::Class;
use crate::store::s3::exchange::Seen;
use crate::store::s3::explain::Site;

/// The most of a foreign message that is shown.
const MAX_WORDS: usize = 300;

/// An answer that says no. As a cause it prints its code.
#[derive(Clone, Debug, Default)]
pub(super) struct Refusal {
    pub(super) status: u16,
    code: Option<String>,
    pub(super) message: String,
    /// `x-amz-bucket-region`, else `<Region>`.
    region: Option<String>,
    /// `<ServerTime>`.
    server_time: Option<String>,
    /// The answer came from something that spoke HTTP to our TLS, or TLS to our HTTP.
    wrong_scheme: bool,
}

/// What an error means and what to do about it.
#[derive(Clone, Debug)]
pub(super) struct Verdict {
    pub(super) class: Class,
    pub(super) reason: String,
    pub(super) hint: Option<String>,
}

impl Verdict {
    pub(super) fn new(class: Class, reason: impl Into<String>) -> Self {
        Self { class, reason: reason.into(), hint: None }
    }

    pub(super) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.code {
            Some(code) if self.status == 0 => f.write_str(code),
            Some(code) => write!(f, "{code} (HTTP {})", self.status),
            None => write!(f, "HTTP {}", self.status),
        }
    }
}

impl std::error::Error for Refusal {}

impl Refusal {
    /// Reads an answer; code and message are what the S3 client found in it.
    pub(super) fn read(response: &HttpResponse, code: Option<&str>, message: Option<&str>) -> Self {
        let body = String::from_utf8_lossy(response.body().bytes().unwrap_or_default()).into_owned();
        let header = response.headers().get("x-amz-bucket-region").map(str::to_owned);
        Self {
            status: response.status().as_u16(),
            code: code.map(str::to_owned).or_else(|| element(&body, "Code")),
            message: message.map(str::to_owned).or_else(|| element(&body, "Message")).unwrap_or_default(),
            region: header.or_else(|| element(&body, "Region")),
            server_time: element(&body, "ServerTime"),
            wrong_scheme: body.contains("HTTP request to an HTTPS server"),
        }
    }

    /// The refusal of one key among many.
    pub(super) fn of_one_key(code: Option<&str>, message: Option<&str>) -> Self {
        let message = message.unwrap_or_default().to_owned();
        Self { code: code.map(str::to_owned), message, ..Self::default() }
    }

    pub(super) fn code(&self) -> &str {
        self.code.as_deref().unwrap_or_default()
    }

    pub(super) fn is_error(&self) -> bool {
        !(200..300).contains(&self.status)
    }

    /// True where there is no such object. The answer to `HEAD` has no body, so no code.
    pub(super) fn says_not_found(&self, operation: &str) -> bool {
        let named = matches!(self.code(), "NoSuchKey" | "NoSuchVersion") && operation != "put";
        named || (self.status == 404 && operation == "head" && matches!(self.code(), "" | "NotFound"))
    }

    /// True where a conditional put found an object.
    pub(super) fn says_exists(&self) -> bool {
        self.status == 412 || self.code() == "PreconditionFailed"
    }

    /// What it means, with what only this answer knows.
    pub(super) fn judge(&self, site: &Site, seen: &Seen) -> Verdict {
        match self.code() {
            "RequestTimeTooSkewed" => self.judge_skew(site, seen),
            "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException" => {
                self.judge_region(site)
            }
            "" if matches!(self.status, 301 | 307) => self.judge_region(site),
            "" if self.wrong_scheme => Verdict::new(Class::Store, "the endpoint speaks HTTPS, not HTTP")
                .with_hint("write the endpoint in [repository] with https://"),
            _ => self.judge_code(site),
        }
    }

    /// What its code and status mean.
    pub(super) fn judge_code(&self, site: &Site) -> Verdict {
        let hint = match self.code() {
            "InvalidAccessKeyId" => "check access_key_id in [repository]: the service does not know it",
            "SignatureDoesNotMatch" => {
                "check secret_access_key in [repository]: it does not belong to this access_key_id"
            }
            "ExpiredToken" | "TokenRefreshRequired" | "InvalidToken" => {
                "get a new temporary access key, or leave the keys out of [repository] so that they are renewed"
            }
            "AccessDenied" | "AllAccessDisabled" | "AccountProblem" => {
                return self.refuse(&format!(
                    "allow this access key the action on bucket {} (s3:PutObject, s3:GetObject, s3:ListBucket; s3:DeleteObject only for pruning)",
                    site.bucket
                ));
            }
            "NoSuchBucket" => {
                return self.refuse(&format!(
                    "create bucket {} at {}, or correct url in [repository]",
                    site.bucket,
                    site.service()
                ));
            }
            "NotImplemented" if self.message.contains("hecksum") || self.message.contains("x-amz-") => {
                "set checksums = \"off\" in [repository]: this store does not know them"
            }
            _ if self.asks_for_patience() => {
                return Verdict::new(Class::Busy, self.words()).with_hint(
                    "the store limits the rate of requests: lower [limits] requests_at_once, or raise slow_down_timeout in [repository]",
                );
            }
            _ if self.is_transient() => return Verdict::new(Class::Transient, self.words()),
            "" => match self.status {
                401 | 403 => {
                    "check access_key_id, secret_access_key, the rights of that key, and the clock of this machine"
                }
                400 => "check region, endpoint and the access key in [repository]",
                404 => "check endpoint, path_style and the bucket in [repository]",
                _ => return Verdict::new(Class::Store, self.words()),
            },
            _ => return Verdict::new(Class::Store, self.words()),
        };
        self.refuse(hint)
    }

    fn refuse(&self, hint: &str) -> Verdict {
        Verdict::new(Class::Store, self.words()).with_hint(hint)
    }

    fn asks_for_patience(&self) -> bool {
        let named = matches!(
            self.code(),
            "SlowDown"
                | "SlowDownRead"
                | "SlowDownWrite"
                | "ServiceUnavailable"
                | "ServerBusy"
                | "Busy"
                | "Throttling"
                | "ThrottlingException"
                | "TooManyRequests"
                | "RequestLimitExceeded"
        );
        named || matches!(self.status, 429 | 503)
    }

    fn is_transient(&self) -> bool {
        let named = matches!(
            self.code(),
            "InternalError"
                | "RequestTimeout"
                | "OperationAborted"
                | "ConditionalRequestConflict"
                | "BadDigest"
                | "IncompleteBody"
                | "XAmzContentSHA256Mismatch"
                | "XAmzContentChecksumMismatch"
        );
        named || matches!(self.status, 408 | 425 | 500 | 502 | 504)
    }

    fn judge_skew(&self, site: &Site, seen: &Seen) -> Verdict {
        let ours = seen.signed_at.as_deref().and_then(signature_time).map_or("unknown".to_owned(), show_time);
        let told = self.server_time.as_deref().and_then(|text| DateTime::parse_from_rfc3339(text).ok());
        let theirs = told.map(|at| at.to_utc()).or(seen.answered_at).map_or("unknown".to_owned(), show_time);
        let reason = format!("the clocks differ too much: here it is {ours}, at {} {theirs}", site.service());
        Verdict::new(Class::Store, reason)
            .with_hint("set the clock of this machine, best by NTP (timedatectl set-ntp true)")
    }

    fn judge_region(&self, site: &Site) -> Verdict {
        let reason = format!("bucket {} is not in region {}", site.bucket, site.region);
        let hint = match &self.region {
            Some(region) if *region != site.region => format!("set region = \"{region}\" in [repository]"),
            _ => "set region in [repository] to the one of the bucket, and check endpoint".to_owned(),
        };
        Verdict::new(Class::Store, reason).with_hint(hint)
    }

    /// The service's own words.
    fn words(&self) -> String {
        let words: String = self.message.split_whitespace().collect::<Vec<_>>().join(" ");
        match words.char_indices().nth(MAX_WORDS) {
            _ if words.is_empty() => format!("the service answered {self}"),
            Some((end, _)) => format!("{}…", &words[..end]),
            None => words.trim_end_matches('.').to_owned(),
        }
    }
}

/// The text of the first such element of a small XML document that has no attributes.
fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    (!text.is_empty()).then(|| text.to_owned())
}

/// The time in a signature: `20261121T094056Z`.
fn signature_time(text: &str) -> Option<DateTime<Utc>> {
    NaiveDateTime::parse_from_str(text, "%Y%m%dT%H%M%SZ").ok().map(|at| at.and_utc())
}

fn show_time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}
