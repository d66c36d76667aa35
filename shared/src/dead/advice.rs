//! What to do about a dead letter, in words for a person on duty [R4].

use crate::error::Reason;

/// What the reason asks for.
pub(super) fn advice(reason: Reason) -> &'static str {
    match reason {
        Reason::NotData => {
            "The source sent something else than data, such as an error text: look at it with `show`; if its service has \
             changed its form, tell the developers, else purge these."
        }
        Reason::BadJson | Reason::BadXml => {
            "The sender writes a form that cannot be read, or cuts its messages off: look at one with `show` and tell the \
             sender. Redrive once a version that reads it is installed."
        }
        Reason::Doctype => {
            "The sender's XML brings declarations of its own, which are never read because they can be used for attacks: \
             the sender has to leave them out. A redrive fails again."
        }
        Reason::ShortRow => {
            "Rows end before their last column: the file was cut off, or its columns were changed. Get it again whole; the \
             rows that were good are known and are not published twice."
        }
        Reason::MissingField => {
            "A field without which the record says nothing is missing or empty: tell the sender which one. Redrive once a \
             version that reads this form is installed."
        }
        Reason::BadLatitude | Reason::BadLongitude => {
            "The position is impossible, often because latitude and longitude are exchanged or empty: the source has to \
             mend it. A redrive fails again unless the rule was changed."
        }
        Reason::BadTime => {
            "The time cannot be read: tell the sender the form that is wanted. Redrive once a version that reads it is \
             installed."
        }
        Reason::FutureTime => {
            "The time lay in the future: the sender's clock is wrong, or this host's was. Set the clock right; a record \
             whose time has come since can be redriven."
        }
        Reason::BadPolygon => {
            "The area cannot be read: the sender has to send it anew. Redrive once a version that reads it is installed."
        }
        Reason::TooLarge => {
            "It is larger than the bound that the detail names: the sender has to send less at once. Redrive once the bound, \
             here or at the broker, was raised."
        }
        Reason::UnauthorisedSource => {
            "The sender may not publish under this source id: find out who it is. If it may, register a connector with the \
             source id and redrive; an alert is redriven by its id alone. If not, purge these."
        }
        Reason::SinkRefused => {
            "The broker refused records that were accepted: nothing else has them. Mend the topic's settings, which the \
             detail points to, and redrive."
        }
    }
}
