//! Sealing with age (age-encryption.org/v1): X25519 recipients and identities, and those of age's plugins.
//!
//! Data is sealed to X25519 only; a plugin (a hardware key) stands for a person, to whom short secrets are sealed. It is a
//! program that is run, and may wait for a finger: call what takes its identities where waiting is allowed.

use std::fmt;
use std::io::{Read, Write};
use std::str::FromStr;

use bech32::{Bech32, Hrp};

use crate::base::secret::Secret;

/// Why something could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A text that is no X25519 recipient.
    #[error("{text:?} is no age recipient: {reason}")]
    BadRecipient {
        /// The text; recipients are public.
        text: String,
        /// What age says.
        reason: String,
    },
    /// A text that is no X25519 identity; it is not shown.
    #[error("not an age identity (AGE-SECRET-KEY-1…): {reason}")]
    BadIdentity {
        /// What age says.
        reason: String,
    },
    /// None of the identities opens it.
    #[error("sealed to other recipients than these identities")]
    WrongIdentity,
    /// A plugin is not installed, or did not do it.
    #[error("age plugin: {reason}")]
    Plugin {
        /// Its words.
        reason: String,
    },
    /// The passphrase is another one.
    #[error("the passphrase does not fit")]
    WrongPassphrase,
    /// It is damaged, or no age file.
    #[error("not a whole age file: {reason}")]
    Damaged {
        /// What age says.
        reason: String,
    },
    /// More plaintext than allowed.
    #[error("holds more than {limit} bytes")]
    TooLarge {
        /// What was allowed.
        limit: usize,
    },
}

/// To whom something is sealed.
#[derive(Clone)]
pub struct Recipient {
    text: String,
    inner: RecipientKind,
}

#[derive(Clone)]
enum RecipientKind {
    Native(age::x25519::Recipient),
    Plugin(age::plugin::Recipient),
    /// The public half of a plugin's identity, which only the plugin knows.
    Unknown,
}

impl FromStr for Recipient {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parsed: Result<age::x25519::Recipient, _> = text.parse();
        let reason = match parsed {
            Ok(inner) => return Ok(Self { text: inner.to_string(), inner: RecipientKind::Native(inner) }),
            Err(reason) => reason.to_string(),
        };
        let plugin: Result<age::plugin::Recipient, _> = text.parse();
        let inner = plugin.map_err(|_| Error::BadRecipient { text: text.to_owned(), reason })?;
        Ok(Self { text: text.to_owned(), inner: RecipientKind::Plugin(inner) })
    }
}

impl Recipient {
    /// True for an X25519 recipient, to which data may be sealed.
    pub fn is_native(&self) -> bool {
        matches!(self.inner, RecipientKind::Native(_))
    }

    /// What age seals to; fails where a plugin is not installed.
    fn for_age(&self) -> Result<Box<dyn age::Recipient>, Error> {
        match &self.inner {
            RecipientKind::Native(inner) => Ok(Box::new(inner.clone())),
            RecipientKind::Plugin(inner) => {
                let opened = age::plugin::RecipientPluginV1::new(
                    inner.plugin(),
                    std::slice::from_ref(inner),
                    &[],
                    Conversation { ask: None },
                );
                opened
                    .map(|plugin| Box::new(plugin) as Box<dyn age::Recipient>)
                    .map_err(|error| Error::Plugin { reason: error.to_string() })
            }
            RecipientKind::Unknown => Err(Error::Plugin { reason: format!("{} is no recipient", self.text) }),
        }
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Eq for Recipient {}

impl PartialEq for Recipient {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// What opens what was sealed to its recipient.
#[derive(Clone)]
pub struct Identity {
    inner: IdentityKind,
    recipient: Recipient,
}

#[derive(Clone)]
enum IdentityKind {
    Native(age::x25519::Identity),
    Plugin(age::plugin::Identity, Option<Ask>),
}

/// Asks a person for a secret, with these words; `None` where nobody answers.
pub type Ask = fn(&str) -> Option<Secret>;

/// How a plugin speaks to people: its messages are logged, a secret is asked for where somebody can be asked.
#[derive(Clone)]
struct Conversation {
    ask: Option<Ask>,
}

impl age::Callbacks for Conversation {
    fn display_message(&self, message: &str) {
        tracing::info!(message, "an age plugin says");
    }

    fn confirm(&self, _message: &str, _yes: &str, _no: Option<&str>) -> Option<bool> {
        None
    }

    fn request_public_string(&self, _description: &str) -> Option<String> {
        None
    }

    fn request_passphrase(&self, description: &str) -> Option<age::secrecy::SecretString> {
        self.ask.and_then(|ask| ask(description)).map(|secret| secret.reveal().to_owned().into())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.recipient)
    }
}

impl Identity {
    /// The identity whose X25519 secret is these 32 bytes (clamped when it is used; RFC 7748).
    pub fn from_bytes(secret: &[u8; 32]) -> Self {
        let prefix = Hrp::parse("age-secret-key-").expect("a constant that bech32 allows");
        let text = bech32::encode_upper::<Bech32>(prefix, secret).expect("32 bytes are short enough for bech32");
        Self::parse(&Secret::new(text)).expect("bech32 of 32 bytes under age's prefix is an identity")
    }

    /// Reads `AGE-SECRET-KEY-1…`, or a plugin's `AGE-PLUGIN-NAME-1…`.
    pub fn parse(text: &Secret) -> Result<Self, Error> {
        Self::parse_asking(text, None)
    }

    /// The same; a plugin that needs a secret gets it from `ask`.
    pub fn parse_asking(text: &Secret, ask: Option<Ask>) -> Result<Self, Error> {
        let text = text.reveal().trim();
        if text.starts_with("AGE-PLUGIN-") {
            let inner = age::plugin::Identity::from_str(text)
                .map_err(|reason| Error::BadIdentity { reason: reason.to_owned() })?;
            let named = format!("a key of age-plugin-{}", inner.plugin());
            return Ok(Self {
                inner: IdentityKind::Plugin(inner, ask),
                recipient: Recipient { text: named, inner: RecipientKind::Unknown },
            });
        }
        let inner =
            age::x25519::Identity::from_str(text).map_err(|reason| Error::BadIdentity { reason: reason.to_owned() })?;
        let public = inner.to_public();
        let recipient = Recipient { text: public.to_string(), inner: RecipientKind::Native(public) };
        Ok(Self { inner: IdentityKind::Native(inner), recipient })
    }

    /// Reads an identity file: comments and blank lines are passed over, every other line is an identity.
    pub fn parse_file(text: &Secret) -> Result<Vec<Self>, Error> {
        let lines = text.reveal().lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let found = lines.map(|line| Self::parse(&Secret::new(line.to_owned()))).collect::<Result<Vec<_>, _>>()?;
        if found.is_empty() {
            return Err(Error::BadIdentity { reason: "the file holds no identity".to_owned() });
        }
        Ok(found)
    }

    /// Its public half; of a plugin's identity only the plugin's name.
    pub fn recipient(&self) -> &Recipient {
        &self.recipient
    }

    /// The secret as age writes it.
    pub fn to_secret(&self) -> Secret {
        use age::secrecy::ExposeSecret;

        match &self.inner {
            IdentityKind::Native(inner) => Secret::new(inner.to_string().expose_secret().to_owned()),
            IdentityKind::Plugin(inner, _) => Secret::new(inner.to_string()),
        }
    }

    /// What age opens with; fails where a plugin is not installed.
    fn for_age(&self) -> Result<Box<dyn age::Identity>, Error> {
        match &self.inner {
            IdentityKind::Native(inner) => Ok(Box::new(inner.clone())),
            IdentityKind::Plugin(inner, ask) => {
                let talk = Conversation { ask: *ask };
                let opened = age::plugin::IdentityPluginV1::new(inner.plugin(), std::slice::from_ref(inner), talk);
                opened
                    .map(|plugin| Box::new(plugin) as Box<dyn age::Identity>)
                    .map_err(|error| Error::Plugin { reason: error.to_string() })
            }
        }
    }
}

/// Seals `plain` to all `recipients`, which must not be empty, and are X25519 recipients all.
pub fn seal(plain: &[u8], recipients: &[Recipient]) -> Vec<u8> {
    seal_to_all(plain, recipients).expect("sealing to X25519 recipients runs no program")
}

fn seal_to_all(plain: &[u8], recipients: &[Recipient]) -> Result<Vec<u8>, Error> {
    assert!(!recipients.is_empty(), "sealing to nobody would lose the data");
    let all = recipients.iter().map(Recipient::for_age).collect::<Result<Vec<_>, _>>()?;
    let failed = |error: age::EncryptError| Error::Plugin { reason: error.to_string() };
    let encryptor =
        age::Encryptor::with_recipients(all.iter().map(|one| one.as_ref() as &dyn age::Recipient)).map_err(failed)?;
    let tags = plain.len().div_ceil(64 << 10) * 16;
    let out = Vec::with_capacity(plain.len() + tags + 200 * (1 + recipients.len()) + 64);
    let mut writer = encryptor.wrap_output(out).expect("writing to memory does not fail");
    writer.write_all(plain).expect("writing to memory does not fail");
    Ok(writer.finish().expect("writing to memory does not fail"))
}

/// Opens `sealed` with the first of `identities` that fits; refuses more than `limit` bytes of plaintext.
pub fn open(sealed: &[u8], identities: &[Identity], limit: usize) -> Result<Vec<u8>, Error> {
    let decryptor = age::Decryptor::new_buffered(sealed).map_err(open_error)?;
    // A plugin that is missing matters only if no other identity fits.
    let (mut all, mut missing) = (Vec::with_capacity(identities.len()), None);
    for identity in identities {
        match identity.for_age() {
            Ok(identity) => all.push(identity),
            Err(error) => missing = missing.or(Some(error)),
        }
    }
    let opened = decryptor.decrypt(all.iter().map(|one| one.as_ref() as &dyn age::Identity));
    let reader = opened.map_err(|error| match (open_error(error), missing) {
        (Error::WrongIdentity, Some(missing)) => missing,
        (error, _) => error,
    })?;
    let mut plain = Vec::with_capacity(sealed.len().min(limit));
    let read = reader.take(limit as u64 + 1).read_to_end(&mut plain);
    read.map_err(|error| Error::Damaged { reason: error.to_string() })?;
    if plain.len() > limit { Err(Error::TooLarge { limit }) } else { Ok(plain) }
}

/// Seals a short secret as armoured text, for a JSON document. May run plugins, and fails only with theirs.
pub fn seal_text(secret: &Secret, recipients: &[Recipient]) -> Result<String, Error> {
    let sealed = seal_to_all(secret.reveal().as_bytes(), recipients)?;
    let mut armor = age::armor::ArmoredWriter::wrap_output(Vec::new(), age::armor::Format::AsciiArmor)
        .expect("writing to memory does not fail");
    armor.write_all(&sealed).expect("writing to memory does not fail");
    let text = armor.finish().expect("writing to memory does not fail");
    Ok(String::from_utf8(text).expect("armour is ASCII"))
}

/// Opens what [`seal_text`] made.
pub fn open_text(armored: &str, identities: &[Identity]) -> Result<Secret, Error> {
    const LIMIT: usize = 64 << 10;
    let mut sealed = Vec::new();
    let reader = age::armor::ArmoredReader::new(armored.as_bytes());
    let read = reader.take(LIMIT as u64).read_to_end(&mut sealed);
    read.map_err(|error| Error::Damaged { reason: error.to_string() })?;
    let plain = open(&sealed, identities, LIMIT)?;
    let text = String::from_utf8(plain).map_err(|_| Error::Damaged { reason: "holds no text".to_owned() })?;
    Ok(Secret::new(text))
}

/// True for what `age -p` writes, armoured or not: a file that must be opened before it can be read.
pub fn is_protected(bytes: &[u8]) -> bool {
    let bytes = bytes.trim_ascii_start();
    bytes.starts_with(b"age-encryption.org/v1\n") || bytes.starts_with(b"-----BEGIN AGE ENCRYPTED FILE-----")
}

/// The most work that opening with a passphrase may take, as the power of two of scrypt's N: 1 GiB. `age -p` asks for 18.
const MAX_PASSPHRASE_WORK: u8 = 20;

/// Opens a text that is protected by a passphrase (scrypt). Takes about a second of processor time, by design.
pub fn open_protected(bytes: &[u8], passphrase: &Secret) -> Result<Secret, Error> {
    const LIMIT: u64 = 64 << 10;
    let decryptor = age::Decryptor::new(age::armor::ArmoredReader::new(bytes)).map_err(open_error)?;
    let mut identity = age::scrypt::Identity::new(passphrase.reveal().to_owned().into());
    identity.set_max_work_factor(MAX_PASSPHRASE_WORK);
    let opened = decryptor.decrypt(std::iter::once(&identity as &dyn age::Identity));
    let reader = opened.map_err(|error| match error {
        age::DecryptError::NoMatchingKeys
        | age::DecryptError::DecryptionFailed
        | age::DecryptError::KeyDecryptionFailed => Error::WrongPassphrase,
        other => Error::Damaged { reason: other.to_string() },
    })?;
    let mut text = zeroize::Zeroizing::new(Vec::new());
    let read = reader.take(LIMIT).read_to_end(&mut text);
    read.map_err(|error| Error::Damaged { reason: error.to_string() })?;
    let text = std::str::from_utf8(&text).map_err(|_| Error::Damaged { reason: "holds no text".to_owned() })?;
    Ok(Secret::new(text.to_owned()))
}

fn open_error(error: age::DecryptError) -> Error {
    match error {
        age::DecryptError::NoMatchingKeys => Error::WrongIdentity,
        age::DecryptError::Plugin(_) | age::DecryptError::PluginResolve(_) => {
            Error::Plugin { reason: error.to_string() }
        }
        other => Error::Damaged { reason: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLUGIN_RECIPIENT: &str = "age1nobodyhasthis1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqzt5whp";
    const PLUGIN_IDENTITY: &str =
        "AGE-PLUGIN-NOBODYHASTHIS-1QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQ8M5QWG";

    #[test]
    fn only_the_right_identity_opens_and_damage_is_seen() {
        let (alice, bob) = (Identity::from_bytes(&[1; 32]), Identity::from_bytes(&[2; 32]));
        let plain = b"rows\n".repeat(50_000);
        let sealed = seal(&plain, &[alice.recipient().clone()]);
        assert_eq!(open(&sealed, std::slice::from_ref(&alice), 1 << 20).expect("open"), plain);
        assert!(matches!(open(&sealed, std::slice::from_ref(&bob), 1 << 20), Err(Error::WrongIdentity)));
        assert!(matches!(open(&sealed, &[bob, alice.clone()], 10), Err(Error::TooLarge { .. })));
        for broken in [&sealed[..sealed.len() - 1], &sealed[..10], &[]] {
            assert!(matches!(open(broken, std::slice::from_ref(&alice), 1 << 20), Err(Error::Damaged { .. })));
        }
    }

    #[test]
    fn identities_and_armoured_secrets_survive_their_text_form() {
        let identity = Identity::from_bytes(&[9; 32]);
        let again = Identity::parse(&identity.to_secret()).expect("parse");
        assert_eq!(again.recipient(), identity.recipient());
        let armored = seal_text(&Secret::new("key".to_owned()), &[identity.recipient().clone()]).expect("seal");
        assert!(armored.starts_with("-----BEGIN AGE ENCRYPTED FILE-----"));
        assert_eq!(open_text(&armored, &[identity]).expect("open").reveal(), "key");
    }

    #[test]
    fn a_protected_text_opens_with_its_passphrase_only() {
        let mut recipient = age::scrypt::Recipient::new("correct horse".to_owned().into());
        recipient.set_work_factor(4);
        let sealed = age::encrypt(&recipient, b"AGE-SECRET-KEY-1\n").expect("seal");
        let armored = age::encrypt_and_armor(&recipient, b"AGE-SECRET-KEY-1\n").expect("seal");
        let open = |bytes: &[u8], passphrase: &str| open_protected(bytes, &Secret::new(passphrase.to_owned()));
        for bytes in [sealed.as_slice(), armored.as_bytes()] {
            assert!(is_protected(bytes));
            assert_eq!(open(bytes, "correct horse").expect("open").reveal(), "AGE-SECRET-KEY-1");
            assert!(matches!(open(bytes, "wrong horse"), Err(Error::WrongPassphrase)));
            assert!(open(&bytes[..bytes.len() / 2], "correct horse").is_err());
        }
        assert!(!is_protected(b"AGE-SECRET-KEY-1"));
    }

    #[test]
    fn a_plugin_that_is_not_installed_is_named_and_stands_in_nobodys_way() {
        let recipient: Recipient = PLUGIN_RECIPIENT.parse().expect("a plugin's recipient");
        assert!(!recipient.is_native());
        assert_eq!(recipient.to_string(), PLUGIN_RECIPIENT);
        let alice = Identity::from_bytes(&[1; 32]);
        let secret = Secret::new("key".to_owned());
        let error = seal_text(&secret, &[alice.recipient().clone(), recipient]).expect_err("no such plugin");
        assert!(error.to_string().contains("age-plugin-nobodyhasthis"), "{error}");
        let plugin = Identity::parse(&Secret::new(PLUGIN_IDENTITY.to_owned())).expect("a plugin's identity");
        let sealed = seal_text(&secret, &[alice.recipient().clone()]).expect("seal");
        assert_eq!(open_text(&sealed, &[plugin.clone(), alice]).expect("open").reveal(), "key");
        assert!(matches!(open_text(&sealed, &[plugin]), Err(Error::Plugin { .. })));
    }

    #[test]
    fn an_identity_file_may_have_comments_but_must_hold_an_identity() {
        let secret = Identity::from_bytes(&[9; 32]).to_secret();
        let file = Secret::new(format!("# created for you\n\n{}\n", secret.reveal()));
        assert_eq!(Identity::parse_file(&file).expect("parse").len(), 1);
        assert!(Identity::parse_file(&Secret::new("# nothing\n".to_owned())).is_err());
        assert!(Identity::parse_file(&Secret::new("hello\n".to_owned())).is_err());
    }
}
