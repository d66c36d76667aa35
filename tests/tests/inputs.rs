//! Inputs that the project makes itself, with facts known from how they were made: what the recorded samples prove where
//! they are at hand is proved here in every clone. Files of other forms, and pushed readings the whole way.

#![allow(clippy::unwrap_used)]

mod inputs {
    mod cap;
    mod files;
    mod firms;
    mod forms;
    mod pushed;
}
