//! A small real SMTP server that takes mails, goes down and comes back, and refuses as it is told.

use std::sync::{Arc, Mutex, PoisonError};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// What it does with a mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Takes it.
    Takes,
    /// Refuses the recipient with this line, such as `550 5.1.1 no such user`.
    RefusesRecipient(&'static str),
    /// Refuses the mail after its text.
    RefusesText(&'static str),
    /// Reads the text and never answers; the mail is not kept.
    FallsSilent,
    /// Takes the mail and hangs up without saying so.
    HangsUp,
    /// Takes the mail and never says so.
    TakesInSilence,
}

/// A mail that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// The envelope's recipients.
    pub to: Vec<String>,
    /// Headers and body, lines ending in CRLF.
    pub text: String,
}

impl Mail {
    /// The value of a header, unfolded.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        let (head, _) = self.text.split_once("\r\n\r\n")?;
        let unfolded = head.replace("\r\n ", " ").replace("\r\n\t", " ");
        unfolded.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found
                .eq_ignore_ascii_case(name)
                .then(|| value.trim().to_owned())
        })
    }
}

#[derive(Debug, Default)]
struct Shared {
    mood: Option<Mood>,
    bounces: Option<&'static str>,
    mails: Vec<Mail>,
    connections: usize,
    most_connections: usize,
}

/// The server; it ends when this is dropped.
#[derive(Debug)]
pub struct SmtpSink {
    port: u16,
    shared: Arc<Mutex<Shared>>,
    serving: Option<JoinHandle<()>>,
}

impl SmtpSink {
    /// Starts one on a free port.
    ///
    /// # Panics
    /// When there is none.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let mut sink = Self {
            port: listener.local_addr().expect("it is bound").port(),
            shared: Arc::default(),
            serving: None,
        };
        sink.serve(listener);
        sink
    }

    /// Its address, for `mail.smtp_url`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("smtp://127.0.0.1:{}", self.port)
    }

    /// Goes down: nobody listens, and open connections break.
    pub async fn stop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            let _cancelled = serving.await;
        }
    }

    /// Comes back on the same port.
    ///
    /// # Panics
    /// When somebody else took the port.
    pub async fn resume(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await;
        self.serve(listener.expect("the port is free"));
    }

    /// What it does from now on.
    pub fn set_mood(&self, mood: Mood) {
        self.lock().mood = Some(mood);
    }

    /// From now on it refuses each recipient whose address ends so.
    pub fn bounce(&self, ending: &'static str) {
        self.lock().bounces = Some(ending);
    }

    /// The mails that were taken.
    #[must_use]
    pub fn mails(&self) -> Vec<Mail> {
        self.lock().mails.clone()
    }

    /// The most connections there were at a time.
    #[must_use]
    pub fn most_connections(&self) -> usize {
        self.lock().most_connections
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&mut self, listener: TcpListener) {
        let shared = Arc::clone(&self.shared);
        self.serving = Some(tokio::spawn(async move {
            // Ends with the task, and the connections with it.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let open = Open::new(Arc::clone(&shared));
                connections.spawn(async move {
                    // A connection that breaks is the other side's affair.
                    let _ = converse(stream, &open.0).await;
                });
            }
        }));
    }
}

impl Drop for SmtpSink {
    fn drop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
        }
    }
}

/// Counts a connection for as long as it is open.
struct Open(Arc<Mutex<Shared>>);

impl Open {
    fn new(shared: Arc<Mutex<Shared>>) -> Self {
        {
            let mut all = shared.lock().unwrap_or_else(PoisonError::into_inner);
            all.connections += 1;
            all.most_connections = all.most_connections.max(all.connections);
        }
        Self(shared)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .connections -= 1;
    }
}

async fn converse(stream: TcpStream, shared: &Mutex<Shared>) -> std::io::Result<()> {
    let mood = || {
        let shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.mood.clone().unwrap_or(Mood::Takes)
    };
    let mut stream = BufReader::new(stream);
    say(&mut stream, "220 sink ESMTP").await?;
    let mut to = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let line = line.trim_end();
        let verb = line.split([' ', ':']).next().unwrap_or_default();
        let answer = match verb.to_ascii_uppercase().as_str() {
            "EHLO" => "250-sink\r\n250-8BITMIME\r\n250 SMTPUTF8",
            "HELO" | "NOOP" | "RSET" => "250 OK",
            "MAIL" => {
                to.clear();
                "250 OK"
            }
            "RCPT" => match mood() {
                Mood::RefusesRecipient(answer) => answer,
                _ if bounces(shared, line) => "550 5.1.1 no such user",
                _ => {
                    to.extend(address(line));
                    "250 OK"
                }
            },
            "DATA" => {
                say(&mut stream, "354 go on").await?;
                let mail = Mail {
                    to: std::mem::take(&mut to),
                    text: text(&mut stream).await?,
                };
                let mood = mood();
                match mood {
                    Mood::RefusesText(answer) => answer,
                    Mood::FallsSilent => {
                        std::future::pending::<()>().await;
                        return Ok(());
                    }
                    Mood::Takes
                    | Mood::RefusesRecipient(_)
                    | Mood::HangsUp
                    | Mood::TakesInSilence => {
                        keep(shared, mail);
                        match mood {
                            Mood::HangsUp => return Ok(()),
                            Mood::TakesInSilence => std::future::pending().await,
                            _ => "250 taken",
                        }
                    }
                }
            }
            "QUIT" => {
                say(&mut stream, "221 bye").await?;
                return Ok(());
            }
            _ => "500 what?",
        };
        say(&mut stream, answer).await?;
    }
}

fn bounces(shared: &Mutex<Shared>, line: &str) -> bool {
    let shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    let ending = shared.bounces.zip(address(line));
    ending.is_some_and(|(ending, address)| address.ends_with(ending))
}

fn keep(shared: &Mutex<Shared>, mail: Mail) {
    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    shared.mails.push(mail);
}

async fn say(stream: &mut BufReader<TcpStream>, line: &str) -> std::io::Result<()> {
    stream.write_all(format!("{line}\r\n").as_bytes()).await
}

/// `RCPT TO:<a@b>` gives `a@b`.
fn address(line: &str) -> Option<String> {
    let (_, rest) = line.split_once('<')?;
    let (address, _) = rest.split_once('>')?;
    Some(address.to_owned())
}

/// The text up to the line with the lone dot; the dots that hid others are taken away.
async fn text(stream: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let mut text = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 || line == ".\r\n" {
            return Ok(text);
        }
        text.push_str(line.strip_prefix('.').unwrap_or(&line));
    }
}
