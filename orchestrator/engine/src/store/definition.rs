//! Definitions and the numbers of steps.

use diesel::sql_types::{Array, Integer, Jsonb, SmallInt, Text};

database::statement! {
    /// Gives numbers to steps that have none.
    pub struct DefineSteps {
        numbers: Vec<i16> => Array<SmallInt>,
        names: Vec<String> => Array<Text>,
    } -> Integer =
    "INSERT INTO steps (number, name) SELECT * FROM unnest({numbers}, {names}) ON CONFLICT DO NOTHING"
}

database::statement! {
    /// Writes a definition unless its number or its name and version are there.
    pub struct InsertDefinition {
        id: i16 => SmallInt,
        name: String => Text,
        version: i16 => SmallInt,
        hash: String => Text,
        body: serde_json::Value => Jsonb,
    } -> Integer =
    "INSERT INTO definitions (id, name, version, hash, body)
     VALUES ({id}, {name}, {version}, {hash}, {body}) ON CONFLICT DO NOTHING"
}

database::statement! {
    /// All definitions: number, hash.
    pub struct ReadDefinitions {} -> (SmallInt, Text) = "SELECT id, hash FROM definitions"
}

database::statement! {
    /// All steps: number, name.
    pub struct ReadSteps {} -> (SmallInt, Text) = "SELECT number, name FROM steps"
}
