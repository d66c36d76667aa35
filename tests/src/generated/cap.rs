//! CAP messages of versions 1.1 and 1.2 with the features that senders use, bare and in the envelopes of feeds, and an
//! evacuation's thread of four.

/// An area's parts as CAP writes them.
pub const SQUARE: &str = "40.70,-123.90 40.70,-123.80 40.80,-123.80 40.80,-123.90 40.70,-123.90";
pub const TRIANGLE: &str = "40.60,-124.00 40.60,-123.95 40.65,-123.95 40.60,-124.00";
pub const CIRCLE: &str = "40.75,-123.85 5.0";

pub const SENDER: &str = "oes.test@county.example";
pub const SENT: &str = "2026-08-14T14:05:00-07:00";

/// One message. `version` is `1.1` or `1.2`, `prefix` empty or such as `cap:`, `more` stands before the info blocks.
pub fn alert(version: &str, prefix: &str, id: &str, status: &str, kind: &str, more: &str, infos: &str) -> String {
    let bind = prefix.strip_suffix(':').map_or("xmlns".to_owned(), |name| format!("xmlns:{name}"));
    let plain = format!(
        "<alert {bind}=\"urn:oasis:names:tc:emergency:cap:{version}\"><identifier>{id}</identifier><sender>{SENDER}</sender>\
         <sent>{SENT}</sent><status>{status}</status><msgType>{kind}</msgType><scope>Public</scope>{more}{infos}</alert>"
    );
    if prefix.is_empty() {
        return plain;
    }
    // Every element, not the declaration.
    plain.replace("</", "\u{1}").replace('<', &format!("<{prefix}")).replace('\u{1}', &format!("</{prefix}"))
}

/// An info block in one language with everything that an evacuation order carries.
pub fn evacuation(language: &str, event: &str) -> String {
    format!(
        "<info><language>{language}</language><category>Fire</category><event>{event}</event><responseType>Evacuate</responseType>\
         <urgency>Immediate</urgency><severity>Extreme</severity><certainty>Observed</certainty>\
         <eventCode><valueName>SAME</valueName><value>EVI</value></eventCode><expires>2026-08-14T20:05:00-07:00</expires>\
         <headline>Leave now</headline><description>Zones HUM-E012 &amp; HUM-E013, &lt;2 miles from the fire.</description>\
         <parameter><valueName>EvacZone</valueName><value>E012</value></parameter>\
         <parameter><valueName>EvacZone</valueName><value>E013</value></parameter>\
         <area><areaDesc>Zone E012</areaDesc><polygon>{SQUARE}</polygon><polygon>\n  {TRIANGLE}\n</polygon><circle>{CIRCLE}</circle>\
         <geocode><valueName>SAME</valueName><value>006023</value></geocode>\
         <geocode><valueName>UGC</valueName><value>CAZ102</value></geocode></area></info>"
    )
}

/// Alert, Update, Cancel, a Test and its Error, each as its sender would write it.
pub fn chain() -> [String; 5] {
    let order = evacuation("en-US", "Evacuation Immediate") + &evacuation("es-US", "Evacuación inmediata");
    let names = |ids: &[&str]| {
        let names: Vec<String> = ids.iter().map(|id| format!("{SENDER},{id},{SENT}")).collect();
        format!("<references>{}</references>", names.join(" "))
    };
    let lifted = "<info><category>Fire</category><event>Evacuation Lifted</event><responseType>AllClear</responseType>\
        <urgency>Past</urgency><severity>Minor</severity><certainty>Observed</certainty><area><areaDesc>Zone E012</areaDesc>\
        <geocode><valueName>SAME</valueName><value>006023</value></geocode></area></info>";
    [
        alert("1.2", "", "H-001", "Actual", "Alert", "", &order),
        alert("1.2", "cap:", "H-002", "Actual", "Update", &names(&["H-001"]), &evacuation("en-US", "Fire Warning"))
            .replace("><", ">\r\n<"),
        format!("\u{feff}{}", alert("1.2", "", "H-003", "Actual", "Cancel", &names(&["H-001", "H-002"]), lifted)),
        alert("1.1", "", "H-T1", "Test", "Alert", "", &evacuation("en-US", "Evacuation Immediate")),
        alert("1.2", "", "H-T2", "Actual", "Error", &names(&["H-T1"]), ""),
    ]
}

/// Messages inside another text: an Atom feed of whole alerts, IPAWS's list, and an EDXL envelope.
pub fn feeds() -> [(&'static str, String, usize); 4] {
    let one = |id: &str| alert("1.2", "", id, "Actual", "Alert", "", &evacuation("en-US", "Evacuation Immediate"));
    [
        (
            "Atom",
            format!(
                "<?xml version=\"1.0\"?><feed xmlns=\"http://www.w3.org/2005/Atom\"><title>t</title>\
                 <entry><content type=\"text/xml\">{}</content></entry><entry><content type=\"text/xml\">{}</content></entry></feed>",
                one("F-1"),
                one("F-2")
            ),
            2,
        ),
        (
            "IPAWS",
            format!(
                "<ns1:alerts xmlns:ns1=\"http://gov.fema.ipaws.services/feed\">{}{}{}</ns1:alerts>",
                one("I-1"),
                one("I-2"),
                one("I-3")
            ),
            3,
        ),
        (
            "EDXL",
            format!(
                "<EDXLDistribution xmlns=\"urn:oasis:names:tc:emergency:EDXL:DE:1.0\"><contentObject><xmlContent><embeddedXMLContent>{}\
                 </embeddedXMLContent></xmlContent></contentObject></EDXLDistribution>",
                one("E-1")
            ),
            1,
        ),
        ("UTF-16 is tested with its own bytes", one("U-1"), 1),
    ]
}
