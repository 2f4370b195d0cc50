//! No connection to another life of the database.
//!
//! What a process remembers, and what it is about to write, is of the life that it began in. While it is at
//! work an operator may bring the database back to an earlier point under it: the server stops, every
//! connection breaks, and the first new one would write into a database that knows nothing of what the
//! process knows. So a new connection looks first, and to another life there is none.
//!
//! [`crate::renew_incarnation`] begins another life without any restart. It ends the connections that there
//! are, and until it has committed the look of a new one waits; so nothing is written after it by anybody who
//! began before.

use crate::{
    Connection, Error,
    incarnation::{Standing, standing},
};
use diesel::{ConnectionError, ConnectionResult};
use std::sync::{Arc, OnceLock};
use tokio::sync::watch;

/// In which life a process began, and whether that is over. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Life(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    began_in: OnceLock<u64>,
    other: watch::Sender<Option<Other>>,
}

/// Where the database is found instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Other {
    /// In a life with this number.
    Number(u64),
    /// At another place, where nobody has drawn a number yet.
    Place,
}

impl Default for Life {
    fn default() -> Self {
        Self(Arc::new(Inner {
            began_in: OnceLock::new(),
            other: watch::Sender::new(None),
        }))
    }
}

impl Life {
    /// From now on there are connections to the life with this number only.
    pub fn begin(&self, number: u64) {
        let _began_before = self.0.began_in.set(number);
    }

    /// Whether it was seen to be over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.other.borrow().is_some()
    }

    /// Waits until it is over.
    pub async fn over(&self) -> Other {
        let mut other = self.0.other.subscribe();
        let seen = other.wait_for(Option::is_some).await.map(|other| *other);
        match seen {
            Ok(Some(other)) => other,
            // The sender is ours, so there is one.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// Looks whether it goes on.
    ///
    /// # Errors
    /// The database cannot be asked, or still replays its log.
    pub async fn look(&self, connection: &mut Connection) -> Result<(), Error> {
        let Some(began_in) = self.0.began_in.get() else {
            return Ok(());
        };
        let other = match standing(connection).await? {
            Some(Standing { number, .. }) if number.cast_unsigned() != *began_in => {
                Other::Number(number.cast_unsigned())
            }
            Some(Standing { here: true, .. }) => return Ok(()),
            Some(_) | None => Other::Place,
        };
        self.0.other.send_replace(Some(other));
        Ok(())
    }

    /// Lets a new connection in.
    pub(crate) async fn admit(&self, mut connection: Connection) -> ConnectionResult<Connection> {
        let bad = |why: String| ConnectionError::BadConnection(why);
        self.look(&mut connection).await.map_err(|error| {
            bad(format!(
                "cannot tell which life of the database this is: {error:?}"
            ))
        })?;
        match self.is_over() {
            true => Err(bad("the database is in another life".to_owned())),
            false => Ok(connection),
        }
    }
}
