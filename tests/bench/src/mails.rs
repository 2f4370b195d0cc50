//! `bench role mails PORT`: a mail server that takes every mail and throws it away, so that what sending
//! costs can be told from what not sending costs. A process of its own, for its share is not Guichet's.

use std::env;

use anyhow::{Context, Result};
use runtime::{admin, health::Readiness, shutdown};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

/// Listens until it is asked to stop.
pub(crate) async fn serve(port: u16) -> Result<()> {
    let stop = shutdown::signal();
    let readiness = Readiness::new(stop.clone());
    let check = readiness.check("smtp");
    let admin = env::var("GUICHET_ADMIN_ADDR").context("GUICHET_ADMIN_ADDR")?;
    admin::serve(admin.parse()?, "mails", readiness, CancellationToken::new()).await?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    check.ready();
    let serving = async {
        loop {
            if let Ok((stream, _)) = listener.accept().await {
                // A connection that breaks is the other side's affair.
                tokio::spawn(async move { converse(stream).await.ok() });
            }
        }
    };
    stop.run_until_cancelled(serving).await;
    Ok(())
}

async fn converse(stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 bench ESMTP\r\n").await?;
    let (mut line, mut in_text) = (String::new(), false);
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        if in_text {
            in_text = line != ".\r\n";
            if !in_text {
                stream.write_all(b"250 taken\r\n").await?;
            }
            continue;
        }
        let verb = line.split([' ', ':', '\r']).next().unwrap_or_default();
        let answer: &[u8] = match verb.to_ascii_uppercase().as_str() {
            "EHLO" => b"250-bench\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n",
            "HELO" | "MAIL" | "RCPT" | "NOOP" | "RSET" => b"250 OK\r\n",
            "DATA" => {
                in_text = true;
                b"354 go on\r\n"
            }
            "QUIT" => {
                stream.write_all(b"221 bye\r\n").await?;
                return Ok(());
            }
            _ => b"500 what?\r\n",
        };
        stream.write_all(answer).await?;
    }
}
