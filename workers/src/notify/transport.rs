//! Where mails go: a directory, or an SMTP server.
//!
//! lettre's time-out bounds only the connecting, so the whole conversation gets one from us. Its
//! pool would park a connection whose conversation that time-out cut short, and the next mail would
//! take the answers to the last one for its own: a refusal could be read as an acceptance. Hence
//! one transport per lane, used by one mail at a time and thrown away after a time-out.

use super::{Config, TransportKind};
use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor, transport::smtp::PoolConfig,
};
use std::{
    fmt, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::Semaphore;

/// How long a connection to the mail server is kept for the next mail.
const IDLE_MAX: Duration = Duration::from_secs(20);

type Smtp = AsyncSmtpTransport<Tokio1Executor>;

/// Why a mail did not leave.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The server is down, slow, full, or does not let us in: it may leave later.
    #[error("the mail could not be sent now: {0}")]
    Transient(String),
    /// The server will never take this mail.
    #[error("the mail was refused for good (SMTP {status})")]
    Refused {
        /// The server's reply code, 500 to 599.
        status: u16,
    },
}

/// Why mails cannot be sent at all.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The directory cannot be made.
    #[error("mail.directory {path} cannot be made", path = path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The URL cannot be used.
    #[error("mail.smtp_url cannot be used: {0}")]
    Url(String),
}

/// Sends mails. Bounded: as many at a time as `mail.connections_max`, the others wait.
pub struct Transport {
    kind: Kind,
    permits: Semaphore,
    connections_max: usize,
    timeout: Duration,
}

enum Kind {
    File(PathBuf),
    Smtp {
        url: runtime::Secret,
        idle: Mutex<Vec<Smtp>>,
    },
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::File(directory) => f.debug_tuple("File").field(directory).finish(),
            Kind::Smtp { .. } => f.debug_tuple("Smtp").finish(),
        }
    }
}

impl Transport {
    /// Opens it; for files, makes the directory. No server is spoken to yet.
    ///
    /// # Errors
    /// See [`SetupError`].
    pub fn open(config: &Config) -> Result<Self, SetupError> {
        let kind = match config.transport {
            TransportKind::File => {
                let path = config.directory.clone();
                // Mails are personal data.
                std::fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(&path)
                    .map_err(|source| SetupError::Directory {
                        path: path.clone(),
                        source,
                    })?;
                Kind::File(path)
            }
            TransportKind::Smtp => {
                let url = config
                    .smtp_url
                    .clone()
                    .ok_or_else(|| SetupError::Url("it is missing".to_owned()))?;
                let first = smtp(url.expose(), config.timeout())?;
                let idle = Mutex::new(vec![first]);
                Kind::Smtp { url, idle }
            }
        };
        let connections_max = config.connections_max.max(1);
        Ok(Self {
            kind,
            permits: Semaphore::new(connections_max),
            connections_max,
            timeout: config.timeout(),
        })
    }

    /// Mails that are sent at a time.
    pub(crate) fn connections_max(&self) -> usize {
        self.connections_max
    }

    /// Sends one mail. `name` is the file's, without its ending.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send(&self, name: uuid::Uuid, message: &Message) -> Result<(), SendError> {
        let _permit = self
            .permits
            .acquire()
            .await
            .map_err(|_| SendError::Transient("stopping".to_owned()))?;
        match &self.kind {
            Kind::File(directory) => write(directory, name, &message.formatted())
                .await
                .map_err(|error| SendError::Transient(error.to_string())),
            Kind::Smtp { url, idle } => self.deliver(url, idle, message).await,
        }
    }

    async fn deliver(
        &self,
        url: &runtime::Secret,
        idle: &Mutex<Vec<Smtp>>,
        message: &Message,
    ) -> Result<(), SendError> {
        let parked = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let lane = match parked {
            Some(lane) => lane,
            None => smtp(url.expose(), self.timeout)
                .map_err(|error| SendError::Transient(error.to_string()))?,
        };
        let bytes = message.formatted();
        let sending = lane.send_raw(message.envelope(), &bytes);
        let Ok(result) = tokio::time::timeout(self.timeout, sending).await else {
            return Err(SendError::Transient(
                "the server did not answer in time".to_owned(),
            ));
        };
        idle.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(lane);
        result.map(drop).map_err(|error| sort(&error))
    }
}

/// An SMTP transport with one connection, not yet opened.
pub(super) fn smtp(url: &str, timeout: Duration) -> Result<Smtp, SetupError> {
    let builder = Smtp::from_url(url).map_err(|error| SetupError::Url(error.to_string()))?;
    Ok(builder
        .timeout(Some(timeout))
        .pool_config(PoolConfig::new().max_size(1).idle_timeout(IDLE_MAX))
        .build())
}

fn sort(error: &lettre::transport::smtp::Error) -> SendError {
    match error.status().map(u16::from) {
        Some(status) if refuses_this_mail(status) => SendError::Refused { status },
        _ => SendError::Transient(error.to_string()),
    }
}

/// Whether a reply code is about this mail or its recipient, for good. Other 5xx are about us (no
/// or wrong login, a command the server does not know): a setting to be mended, not a mail to be
/// given up.
fn refuses_this_mail(status: u16) -> bool {
    matches!(status, 501 | 510 | 511 | 513 | 515 | 541 | 550..=556)
}

/// Writes the file at once or not at all: whoever looks never sees half a mail. The same mail sent
/// again takes the place of the first.
async fn write(directory: &Path, name: uuid::Uuid, bytes: &[u8]) -> io::Result<()> {
    let path = directory.join(format!("{name}.eml"));
    let half = directory.join(format!(".{name}.{}", uuid::Uuid::now_v7().simple()));
    let result = async {
        tokio::fs::write(&half, bytes).await?;
        tokio::fs::rename(&half, &path).await
    }
    .await;
    if result.is_err() {
        // Best effort: the directory may be gone, and the file with it.
        let _ = tokio::fs::remove_file(&half).await;
    }
    result
}
