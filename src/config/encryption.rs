//! `[encryption]`: who can read the backups.

use std::collections::BTreeSet;

use serde_json::json;

use crate::base::cpu;
use crate::base::secret::Secret;
use crate::codec::seal;
use crate::config::Config;
use crate::config::environment::Environment;
use crate::config::error::Error;
use crate::config::reader::Section;
use crate::config::secret::{KeyReference, SecretReference};
use crate::config::values::{Node, Value, Wrong, text};

/// The recovery recipients, and where a restoring machine finds an identity.
#[derive(Clone, Debug)]
pub struct Encryption {
    /// The recovery recipients: at least one, none twice.
    pub recipients: Vec<seal::Recipient>,
    /// An age identity file; only where restores run.
    pub identity: Option<SecretReference>,
    /// The passphrase of that file, where it is protected by one.
    pub identity_passphrase: Option<SecretReference>,
    /// Asks a person for the passphrase where none is configured; no configuration sets it.
    pub ask: Option<seal::Ask>,
}

impl Encryption {
    pub(super) fn read(top: &Section<'_>) -> Option<Self> {
        let section = top.required_section("encryption")?;
        let recipients = read_recipients(&section);
        let identity: Option<KeyReference> = section.optional("identity");
        let passphrase: Option<KeyReference> = section.optional("identity_passphrase");
        section.finish();
        let reference = |key: KeyReference| key.0;
        let (identity, identity_passphrase) = (identity.map(reference), passphrase.map(reference));
        Some(Self { recipients, identity, identity_passphrase, ask: None })
    }
}

impl Config {
    /// The age identities of a restoring machine, at least one.
    pub async fn identities(&self, environment: &Environment) -> Result<Vec<seal::Identity>, Error> {
        let name = "encryption.identity";
        let not_configured = || Error::KeyNotConfigured { file: self.file.clone(), name };
        let reference = self.encryption.identity.as_ref().ok_or_else(not_configured)?;
        let secret = self.open_identity_file(reference, environment).await?;
        let lines = secret.reveal().lines().map(str::trim).enumerate();
        let mut identities = Vec::new();
        for (index, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            let bad = |_: seal::Error| {
                reference.failed(&format!("holds something that is no age identity in line {}", index + 1), None)
            };
            let line = Secret::new(line.to_owned());
            identities.push(seal::Identity::parse_asking(&line, self.encryption.ask).map_err(bad)?);
        }
        match identities.is_empty() {
            false => Ok(identities),
            true => Err(reference.failed("holds no age identity (AGE-SECRET-KEY-1…)", None)),
        }
    }
}

impl Config {
    /// The text of the identity file, opened with its passphrase where it has one.
    async fn open_identity_file(
        &self,
        reference: &SecretReference,
        environment: &Environment,
    ) -> Result<Secret, Error> {
        let bytes = reference.read_raw(environment).await?;
        if !seal::is_protected(&bytes) {
            return reference.text(&bytes);
        }
        let passphrase = match (&self.encryption.identity_passphrase, self.encryption.ask) {
            (Some(passphrase), _) => Some(passphrase.read(environment).await?),
            (None, Some(ask)) => ask("passphrase of the identity"),
            (None, None) => None,
        };
        let missing = "is protected by a passphrase: set encryption.identity_passphrase, or run this on a terminal";
        let passphrase = passphrase.ok_or_else(|| reference.failed(missing, None))?;
        // A second of work, and much memory, by design.
        let opened = cpu::run(move || seal::open_protected(&bytes, &passphrase)).await;
        opened.map_err(|error| reference.failed(&format!("cannot be opened: {error}"), None))
    }
}

fn read_recipients(section: &Section<'_>) -> Vec<seal::Recipient> {
    const KEY: &str = "recipients";
    let recipients: Vec<Recipient> = match section.has(KEY) {
        true => section.list(KEY).unwrap_or_default(),
        false => {
            section.missing(KEY);
            Vec::new()
        }
    };
    if section.is_empty_array(KEY) {
        section.complain(KEY, Wrong::new("recipients is empty", "at least one age recipient (age1…)"));
    }
    let mut seen = BTreeSet::new();
    for Recipient(recipient) in &recipients {
        if !seen.insert(recipient.to_string()) {
            section.complain(KEY, Wrong::new(format!("{recipient} stands here twice"), "each recipient once"));
        }
    }
    recipients.into_iter().map(|Recipient(recipient)| recipient).collect()
}

/// An age recipient, as keygen prints it.
pub(super) struct Recipient(pub(super) seal::Recipient);

impl Value for Recipient {
    fn read(node: &Node<'_>) -> Result<Self, Wrong> {
        const EXPECTED: &str = "an age recipient: age1 and 58 more characters, as keygen prints it";
        let text = text(node, EXPECTED)?;
        if text.to_uppercase().starts_with("AGE-SECRET-KEY-") {
            let mut wrong = Wrong::new("this is an identity, the secret half of a recipient", EXPECTED);
            wrong.meant = Some("whoever read this file can read your backups: make a new one with keygen".to_owned());
            return Err(wrong);
        }
        let what = |error: seal::Error| Wrong::new(error.to_string(), EXPECTED);
        text.parse().map(Self).map_err(what)
    }

    fn show(&self) -> serde_json::Value {
        json!(self.0.to_string())
    }
}
