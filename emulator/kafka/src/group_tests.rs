//! A group's laws, with the clock in the test's hand.

use super::*;

fn joining(id: &str, instance: Option<&str>) -> Joining {
    Joining {
        member_id: text(id),
        instance: instance.map(text),
        client_id: text("client"),
        client_host: "/127.0.0.1".to_owned(),
        protocol_type: text("consumer"),
        protocols: vec![(text("range"), Bytes::from_static(b"topics"))],
        session: Duration::from_secs(10),
        rebalance: Duration::from_secs(60),
        may_skip_assignment: true,
    }
}

type Waiting<T> = Result<oneshot::Receiver<T>, ResponseError>;

fn now<T>(waiting: Waiting<T>) -> T {
    waiting.expect("no refusal").try_recv().expect("an answer at once")
}

/// A stable group of two; their ids, the leader first.
fn two(group: &mut Group, at: Instant) -> (StrBytes, StrBytes) {
    let first = now(group.join(joining("", None), at)).member_id;
    let mut second = group.join(joining("", None), at).unwrap();
    assert!(second.try_recv().is_err(), "the second waits until the first joins again");
    assert_eq!(group.heartbeat(&first, at), Err(ResponseError::RebalanceInProgress));
    let led = now(group.join(joining(&first, None), at));
    let second = second.try_recv().unwrap();
    assert_eq!((led.generation_id, led.members.len(), second.members.len()), (2, 2, 0));
    assert_eq!((&led.leader, &second.leader), (&first, &first));
    let mut waits = group.sync(&second.member_id, Vec::new(), at).unwrap();
    assert!(waits.try_recv().is_err());
    let plan = vec![(first.clone(), Bytes::from_static(b"0")), (second.member_id.clone(), Bytes::from_static(b"1"))];
    assert_eq!(now(group.sync(&first, plan, at)).assignment, "0");
    assert_eq!(waits.try_recv().unwrap().assignment, "1");
    assert_eq!(group.phase, Phase::Stable);
    (first, second.member_id)
}

#[test]
fn two_members_share_and_the_one_that_stays_takes_over() {
    let (mut group, at) = (Group::default(), Instant::now());
    let (first, second) = two(&mut group, at);
    assert_eq!(group.check(&first, None, 2), Ok(()));
    assert_eq!(group.check(&first, None, 1), Err(ResponseError::IllegalGeneration));
    group.leave(&first, None, at).unwrap();
    assert_eq!(group.check(&first, None, 2), Err(ResponseError::UnknownMemberId));
    assert_eq!(group.heartbeat(&second, at), Err(ResponseError::RebalanceInProgress));
    let alone = now(group.join(joining(&second, None), at));
    assert_eq!((alone.leader, alone.members.len(), alone.generation_id), (second.clone(), 1, 3));
}

#[test]
fn a_silent_member_is_removed_and_a_speaking_one_stays() {
    let (mut group, at) = (Group::default(), Instant::now());
    let (first, second) = two(&mut group, at);
    let later = at + Duration::from_secs(9);
    group.heartbeat(&first, later).unwrap();
    group.tick(later);
    assert_eq!(group.phase, Phase::Stable);
    group.tick(at + Duration::from_secs(10));
    assert_eq!(group.check(&second, None, 2), Err(ResponseError::UnknownMemberId));
    assert_eq!((group.check(&first, None, 2), group.phase), (Ok(()), Phase::Preparing));
}

#[test]
fn a_rebalance_goes_on_without_a_member_that_does_not_join_again() {
    let (mut group, at) = (Group::default(), Instant::now());
    let (first, second) = two(&mut group, at);
    let mut waits = group.join(joining(&second, None).changed(), at).unwrap();
    let late = at + Duration::from_secs(60);
    group.heartbeat(&first, late - Duration::from_secs(1)).unwrap_err();
    group.tick(late - Duration::from_millis(1));
    assert!(waits.try_recv().is_err());
    group.tick(late);
    let alone = waits.try_recv().unwrap();
    assert_eq!((alone.leader, alone.members.len()), (second, 1));
}

impl Joining {
    fn changed(mut self) -> Self {
        self.protocols[0].1 = Bytes::from_static(b"other topics");
        self
    }
}

#[test]
fn a_follower_that_asks_again_disturbs_nobody() {
    let (mut group, at) = (Group::default(), Instant::now());
    let (_, second) = two(&mut group, at);
    assert_eq!(now(group.join(joining(&second, None), at)).generation_id, 2);
    assert_eq!(group.phase, Phase::Stable);
    assert_eq!(now(group.sync(&second, Vec::new(), at)).assignment, "1");
}

#[test]
fn a_static_member_comes_back_to_its_assignment_and_its_former_self_is_fenced() {
    for may_skip_assignment in [true, false] {
        let (mut group, at) = (Group::default(), Instant::now());
        let former = now(group.join(joining("", Some("a")), at)).member_id;
        now(group.sync(&former, vec![(former.clone(), Bytes::from_static(b"all"))], at));
        let back = now(group.join(Joining { may_skip_assignment, ..joining("", Some("a")) }, at));
        assert_eq!((back.generation_id, group.phase), (1, Phase::Stable), "no rebalance");
        assert_ne!(back.member_id, former);
        // A leader that does not know of skipped assignments must not assign anew.
        let leads = back.leader == back.member_id;
        assert_eq!((leads, back.skip_assignment), (may_skip_assignment, may_skip_assignment));
        assert_eq!(now(group.sync(&back.member_id, Vec::new(), at)).assignment, "all");
        let instance = text("a");
        assert_eq!(group.check(&former, Some(&instance), 1), Err(ResponseError::FencedInstanceId));
        assert_eq!(group.check(&back.member_id, Some(&instance), 1), Ok(()));
        let again = group.join(joining(&former, Some("a")), at);
        assert!(matches!(again, Err(ResponseError::FencedInstanceId)));
        group.leave(&text(""), Some(&instance), at).unwrap();
        assert!(group.is_empty() && group.phase == Phase::Empty);
    }
}

#[test]
fn members_without_a_common_protocol_or_with_unknown_ids_are_refused() {
    let (mut group, at) = (Group::default(), Instant::now());
    two(&mut group, at);
    let refused = |joining: Joining, group: &mut Group| group.join(joining, at).map(|_| ()).unwrap_err();
    assert_eq!(refused(joining("nobody", None), &mut group), ResponseError::UnknownMemberId);
    let other = Joining { protocols: vec![(text("sticky"), Bytes::new())], ..joining("", None) };
    assert_eq!(refused(other, &mut group), ResponseError::InconsistentGroupProtocol);
    let other = Joining { protocol_type: text("connect"), ..joining("", None) };
    assert_eq!(refused(other, &mut group), ResponseError::InconsistentGroupProtocol);
    assert_eq!(group.phase, Phase::Stable);
}
