//! Definitions as rows. `guichet migrate` writes them; everyone else checks at the start that what
//! he has in his program is what the database has.

use crate::{
    Error,
    store::definition::{DefineSteps, InsertDefinition, ReadDefinitions, ReadSteps},
};
use database::Connection;
use diesel_async::RunQueryDsl;
use saga::{Definition, order};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// The definitions that sagas run by, by number.
#[derive(Clone, Debug)]
pub struct Definitions {
    by_id: BTreeMap<i16, Arc<Definition>>,
}

impl Definitions {
    /// Those of this program.
    #[must_use]
    pub fn ours() -> Self {
        Self::of(order::versions())
    }

    /// Exactly these.
    #[must_use]
    pub fn of(definitions: impl IntoIterator<Item = Definition>) -> Self {
        let by_id = definitions
            .into_iter()
            .map(|d| (d.id, Arc::new(d)))
            .collect();
        Self { by_id }
    }

    /// The definition with this number.
    #[must_use]
    pub fn get(&self, id: i16) -> Option<&Arc<Definition>> {
        self.by_id.get(&id)
    }

    /// The definition with this label, such as `order@1`.
    #[must_use]
    pub fn labelled(&self, label: &str) -> Option<&Arc<Definition>> {
        self.by_id.values().find(|one| one.label() == label)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Definition>> {
        self.by_id.values()
    }
}

/// Writes definitions that are not there yet. Run by `guichet migrate`.
///
/// # Errors
/// One is there with another hash, or gives a step a number that is another one's.
pub async fn register(connection: &mut Connection, definitions: &Definitions) -> Result<(), Error> {
    for definition in definitions.iter() {
        DefineSteps {
            numbers: definition
                .steps
                .iter()
                .map(|step| i16::from(step.number))
                .collect(),
            names: definition
                .steps
                .iter()
                .map(|step| step.name.to_string())
                .collect(),
        }
        .execute(connection)
        .await?;
        InsertDefinition {
            id: definition.id,
            name: definition.name.clone(),
            version: definition.version,
            hash: definition.hash(),
            body: serde_json::to_value(definition.as_ref()).unwrap_or_default(),
        }
        .execute(connection)
        .await?;
    }
    check(connection, definitions).await
}

/// Checks that the database has these definitions, unchanged.
///
/// # Errors
/// One is missing or has another hash or another number for a step.
pub async fn check(connection: &mut Connection, definitions: &Definitions) -> Result<(), Error> {
    let stored: Vec<(i16, String)> = ReadDefinitions {}.load(connection).await?;
    let stored: HashMap<i16, String> = stored.into_iter().collect();
    let steps: Vec<(i16, String)> = ReadSteps {}.load(connection).await?;
    let steps: HashMap<i16, String> = steps.into_iter().collect();
    for definition in definitions.iter() {
        let label = definition.label();
        match stored.get(&definition.id) {
            None => return Err(Error::DefinitionMissing(label)),
            Some(hash) if *hash != definition.hash() => {
                let (stored, ours) = (hash.clone(), definition.hash());
                return Err(Error::DefinitionChanged {
                    label,
                    stored,
                    ours,
                });
            }
            Some(_) => {}
        }
        for step in &definition.steps {
            if steps.get(&i16::from(step.number)).map(String::as_str) != Some(step.name.as_str()) {
                let (name, number) = (step.name.to_string(), step.number);
                return Err(Error::StepNumber { name, number });
            }
        }
    }
    Ok(())
}
