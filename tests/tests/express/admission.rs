//! Who may send, and under which source ids [A1, A2].

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use streammanager::app::App;
use streammanager::control::audit::{self, Action};
use streammanager::control::caller;
use streammanager::control::connector::Registration;
use streammanager::control::connectors::{self, ControlError};
use streammanager::express::admit::{at_pace, keeps_pace};
use streammanager::express::{Incoming, Why, express};
use streammanager::faults::Fault;
use streammanager::limits::SENDER_BURST;
use streammanager::record::{ConnectorId, SourceId, TenantId};
use streammanager::settings::Settings;
use streammanager::sink::Lane;
use streammanager::store::{Expect, Key};
use streammanager_tests::bodies::actual;
use streammanager_tests::simulated::Simulated;
use tokio::time::{Instant, timeout};

use super::refused;

#[tokio::test(start_paused = true)]
async fn a2_whoever_is_not_admitted_sends_nothing_and_is_audited() {
    let sim = Simulated::new(10);
    let key = sim.sender("butte").await;
    let wrong = format!("{key}x");
    let foreign = sim.sender("yuba").await.replace("yuba", "butte");
    for bad in ["", "smk_", wrong.as_str(), foreign.as_str()] {
        assert_eq!(refused(&sim.alert(bad, actual("A")).await), Some(Why::Unknown), "{bad}");
    }
    connectors::revoke(&sim.app, &ConnectorId::new("butte").unwrap(), "a test").await.unwrap();
    assert_eq!(refused(&sim.alert(&key, actual("A")).await), Some(Why::Unknown), "revoked");
    let entries = audit::page(&*sim.app.store, sim.app.clock.now(), None, 100).await.unwrap();
    let refused: Vec<_> = entries.iter().filter(|listed| listed.entry.action == Action::Refused).collect();
    assert_eq!(refused.len(), 5);
    assert!(!format!("{refused:?}").contains(key.split(':').nth(1).unwrap()), "no key in the audit log [A6]");
    assert_eq!((sim.sink.sends(), sim.queued().await), (vec![], 0));
}

#[tokio::test(start_paused = true)]
async fn a2_a_connector_publishes_under_its_own_source_ids_alone() {
    let sim = Simulated::new(11);
    let key = sim.sender("butte").await;
    sim.sender("yuba").await;
    let caller = caller::by_key(&sim.app, &key).await.unwrap();
    for (source, may) in [("evacuation_alert_yuba", false), ("firms_modis", false), ("evacuation_alert_butte", true)] {
        let source = SourceId::new(source).unwrap();
        let (body, received_at) = (actual("A").into(), sim.app.clock.now());
        let incoming =
            Incoming { caller: &caller, source: Some(&source), body, received_at, sender: None, lineage: None };
        let verdict = express(&sim.app, incoming).await;
        assert_eq!(refused(&verdict), (!may).then_some(Why::NotGranted), "{source}: {verdict:?}");
    }
    let entries = audit::page(&*sim.app.store, sim.app.clock.now(), None, 100).await.unwrap();
    let refused = entries.iter().filter(|listed| listed.entry.action == Action::Refused);
    let subjects: Vec<&str> = refused.map(|listed| listed.entry.subject.as_str()).collect();
    assert_eq!(subjects, ["evacuation_alert_yuba", "firms_modis"]);
    assert_eq!((sim.sink.sends(), sim.queued().await), (vec![(Lane::Critical, 1)], 0));
}

fn registration(id: &str, principal: Option<&str>) -> Registration {
    Registration {
        id: ConnectorId::new(id).unwrap(),
        tenant: TenantId::new("test").unwrap(),
        sources: vec![SourceId::new("evacuation_alert_butte").unwrap()],
        critical: true,
        principal: principal.map(str::to_owned),
    }
}

#[tokio::test(start_paused = true)]
async fn a2_a_principal_names_one_connector_and_an_empty_one_nobody() {
    let sim = Simulated::new(12);
    let register = async |id, principal| connectors::register(&sim.app, registration(id, principal), "a test").await;
    register("butte", Some("cert-1")).await.unwrap();
    register("yuba", None).await.unwrap();
    for (id, principal) in [
        ("a", Some("")),
        ("a", Some(" ")),
        ("a", Some("cert-1")),
        ("a", Some("butte")),
        ("a", Some("yuba")),
        ("cert-1", None),
    ] {
        let refused = register(id, principal).await;
        assert!(matches!(refused, Err(ControlError::Refused(_))), "{id} {principal:?}: {refused:?}");
    }
    connectors::revoke(&sim.app, &ConnectorId::new("butte").unwrap(), "a test").await.unwrap();
    register("butte-2", Some("cert-1")).await.unwrap();

    // As one could be registered before.
    let key = Key::new("connectors", "butte-2");
    let stored = String::from_utf8(sim.app.store.get(&key).await.unwrap().unwrap().value.to_vec()).unwrap();
    let emptied = stored.replace("\"cert-1\"", "\"\"");
    assert_ne!(stored, emptied);
    sim.app.store.put_if(&key, emptied.into(), Expect::Any, None).await.unwrap();
    let source = SourceId::new("evacuation_alert_butte").unwrap();
    let body = actual("A").into();
    let received_at = sim.app.clock.now();
    let caller = caller::by_principal(&sim.app, "").await.unwrap();
    let incoming = Incoming { caller: &caller, source: Some(&source), body, received_at, sender: None, lineage: None };
    assert_eq!(refused(&express(&sim.app, incoming).await), Some(Why::Unknown));
    assert_eq!((sim.sink.sends(), sim.queued().await), (vec![], 0));
}

#[tokio::test(start_paused = true)]
async fn a2_of_two_that_take_a_principal_at_once_one_at_most_is_registered() {
    let sim = Simulated::new(16);
    let register = async |id| connectors::register(&sim.app, registration(id, Some("cert-1")), "a test").await.is_ok();
    // Each looks before the other has written.
    let late = Fault::Late(Duration::from_millis(10));
    sim.store_faults.script([Fault::None, late, Fault::None, late]);
    let (butte, yuba) = tokio::join!(register("butte"), register("yuba"));
    let holders = connectors::list(&*sim.app.store).await.unwrap();
    assert!(!(butte && yuba), "{holders:?}");
    assert_eq!(holders.len(), usize::from(butte) + usize::from(yuba), "{holders:?}");
    assert!(butte || yuba || register("yuba").await, "the principal is lost");
}

#[tokio::test(start_paused = true)]
async fn a1_rotating_a_revoked_connector_is_refused() {
    let sim = Simulated::new(13);
    let key = sim.sender("butte").await;
    let id = ConnectorId::new("butte").unwrap();
    connectors::revoke(&sim.app, &id, "a test").await.unwrap();
    match connectors::rotate(&sim.app, &id, "a test").await {
        Err(ControlError::Refused(why)) => assert!(why.contains("revoked"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(refused(&sim.alert(&key, actual("A")).await), Some(Why::Unknown));
}

/// A3: one sender floods, two keep their pace, and all at one instance.
#[tokio::test(start_paused = true)]
async fn a3_a_sender_that_floods_is_told_to_wait_and_no_other_is_refused() {
    let sim = Simulated::new(21);
    let settings = Settings { sender_pace: NonZeroU32::new(5), ..(*sim.app.settings).clone() };
    let app = App { settings: Arc::new(settings), ..sim.app.clone() };
    let [flooder, yuba, butte] = [sim.sender("placer").await, sim.sender("yuba").await, sim.sender("butte").await];
    let send = async |key: &str, name: String| {
        let event = json!({
            "routeKey": "POST /alerts", "rawPath": "/alerts", "headers": { "authorization": format!("Bearer {key}") }, "body": actual(&name),
            "requestContext": { "http": { "method": "POST", "path": "/alerts" } },
        });
        let answer = streammanager_functions::express::handle(&app, event).await.unwrap().response;
        (answer["statusCode"].as_u64().unwrap(), answer["headers"]["retry-after"].as_str().map(str::to_owned))
    };
    let (mut taken, mut refused) = (0, 0);
    for second in 0..60 {
        for n in 0..100 {
            match send(&flooder, format!("F-{second}-{n}")).await {
                (200, None) => taken += 1,
                (429, Some(after)) if after == "1" => refused += 1,
                other => panic!("{other:?}"),
            }
        }
        for (key, name) in [(&yuba, "Y"), (&butte, "B")] {
            assert_eq!(send(key, format!("{name}-{second}")).await.0, 200, "{name} in second {second}");
        }
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert_eq!((taken, refused), (30 + 59 * 5, 6_000 - 30 - 59 * 5), "a burst, and then its pace");
    let audited = async || {
        let entries = audit::page(&*sim.app.store, sim.app.clock.now(), None, 1_000).await.unwrap();
        let refused = entries.iter().filter(|listed| listed.entry.action == Action::Refused);
        refused.map(|listed| listed.entry.actor.clone()).collect::<Vec<_>>()
    };
    assert_eq!(audited().await, ["placer"], "once, however often it was refused");

    tokio::time::advance(SENDER_BURST).await;
    for n in 0..31 {
        assert_eq!(
            send(&flooder, format!("G-{n}")).await.0,
            if n < 30 { 200 } else { 429 },
            "its burst is whole again"
        );
    }
    assert_eq!(audited().await, ["placer", "placer"], "another flood is another entry");
}

/// A3: whoever waits over MQTT has its turn although the same sender asks over HTTP all the time, and waits for none that was given up.
#[tokio::test(start_paused = true)]
async fn a3_who_waits_for_its_turn_has_it_before_who_asks_again_and_again() {
    let sim = Simulated::new(22);
    let settings = Settings { sender_pace: NonZeroU32::new(5), ..(*sim.app.settings).clone() };
    let app = App { settings: Arc::new(settings), ..sim.app.clone() };
    let caller = caller::by_key(&app, &sim.sender("butte").await).await.unwrap();
    while keeps_pace(&app, &caller).await {}
    let asks = async {
        loop {
            tokio::time::sleep(Duration::from_millis(7)).await;
            keeps_pace(&app, &caller).await;
        }
    };
    let begun = Instant::now();
    let waits = async {
        for _ in 0..10 {
            at_pace(&app, &caller).await;
        }
    };
    tokio::select! { _ = asks => {}, waited = timeout(Duration::from_secs(5), waits) => waited.expect("it starves") }
    assert!(begun.elapsed() >= Duration::from_millis(1_990), "ten at five a second took {:?}", begun.elapsed());

    while keeps_pace(&app, &caller).await {}
    for _ in 0..50 {
        assert!(timeout(Duration::from_millis(1), at_pace(&app, &caller)).await.is_err());
    }
    timeout(Duration::from_millis(300), at_pace(&app, &caller)).await.expect("turns that were given up are waited for");
}
