//! The group coordinator: JoinGroup, SyncGroup, Heartbeat, LeaveGroup, and what tools ask about groups.
//! How a group behaves is in `group`; committed offsets are in `offsets`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::DescribedGroup;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{
    BrokerId, DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse,
    FindCoordinatorRequest, FindCoordinatorResponse, GroupId, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, ListGroupsRequest, ListGroupsResponse, SyncGroupRequest,
    SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::group::{Group, Joining, Phase, join_error, sync_error};
use super::limits::{MAX_GROUPS, MAX_SESSION_MS, MIN_SESSION_MS, NODE_ID};
use super::{Node, code, store_failed, text};

/// Groups with members. A group without members is known by its committed offsets alone.
#[derive(Default)]
pub(super) struct Groups(Mutex<BTreeMap<String, Group>>);

impl Groups {
    pub(super) fn tick(&self, now: Instant) {
        self.0.lock().retain(|_, group| {
            group.tick(now);
            !group.is_empty()
        });
    }

    pub(super) fn with<T>(&self, name: &str, work: impl FnOnce(Option<&mut Group>) -> T) -> T {
        work(self.0.lock().get_mut(name))
    }

    fn join(&self, name: &str, joining: Joining) -> Result<oneshot::Receiver<JoinGroupResponse>, ResponseError> {
        let mut groups = self.0.lock();
        if groups.len() >= MAX_GROUPS && !groups.contains_key(name) {
            return Err(ResponseError::PolicyViolation);
        }
        groups.entry(name.to_owned()).or_default().join(joining, Instant::now())
    }

    fn known(
        &self,
        name: &str,
        check: impl FnOnce(&mut Group) -> Result<(), ResponseError>,
    ) -> Result<(), ResponseError> {
        self.with(name, |group| group.map_or(Err(ResponseError::UnknownMemberId), check))
    }
}

impl Node {
    pub(super) fn find_coordinator(&self, request: FindCoordinatorRequest, version: i16) -> FindCoordinatorResponse {
        const GROUP: i8 = 0;
        let error =
            if request.key_type == GROUP { 0 } else { ResponseError::TransactionalIdAuthorizationFailed.code() };
        let why = (error != 0).then(|| text("the embedded Kafka endpoint has no transactions"));
        let (host, port) = (text(self.advertised.ip().to_string()), i32::from(self.advertised.port()));
        if version < 4 {
            return FindCoordinatorResponse::default()
                .with_error_code(error)
                .with_error_message(why)
                .with_node_id(BrokerId(NODE_ID))
                .with_host(host)
                .with_port(port);
        }
        let coordinators = request.coordinator_keys.into_iter().map(|key| {
            Coordinator::default()
                .with_key(key)
                .with_node_id(BrokerId(NODE_ID))
                .with_host(host.clone())
                .with_port(port)
                .with_error_code(error)
                .with_error_message(why.clone())
        });
        FindCoordinatorResponse::default().with_coordinators(coordinators.collect())
    }

    pub(super) async fn join_group(
        &self,
        request: JoinGroupRequest,
        version: i16,
        client_id: StrBytes,
        client: IpAddr,
    ) -> JoinGroupResponse {
        let id = request.member_id.clone();
        if request.group_id.is_empty() {
            return join_error(ResponseError::InvalidGroupId, &id);
        }
        if !(MIN_SESSION_MS..=MAX_SESSION_MS).contains(&request.session_timeout_ms) {
            return join_error(ResponseError::InvalidSessionTimeout, &id);
        }
        let ms = |ms: i32| Duration::from_millis(ms.max(0) as u64);
        let joining = Joining {
            member_id: request.member_id,
            instance: request.group_instance_id,
            client_id,
            client_host: format!("/{client}"),
            protocol_type: request.protocol_type,
            protocols: request.protocols.into_iter().map(|protocol| (protocol.name, protocol.metadata)).collect(),
            session: ms(request.session_timeout_ms),
            // JoinGroup 0 has no rebalance time of its own.
            rebalance: ms(if version == 0 { request.session_timeout_ms } else { request.rebalance_timeout_ms }),
            may_skip_assignment: version >= 9,
        };
        match self.groups.join(&request.group_id, joining) {
            Ok(joined) => joined.await.unwrap_or_else(|_| join_error(ResponseError::UnknownMemberId, &id)),
            Err(error) => join_error(error, &id),
        }
    }

    pub(super) async fn sync_group(&self, request: SyncGroupRequest) -> SyncGroupResponse {
        let (id, instance) = (&request.member_id, request.group_instance_id.as_ref());
        let assignments = request.assignments.into_iter().map(|to| (to.member_id, to.assignment)).collect();
        let waiting = self.groups.with(&request.group_id, |group| {
            let group = group.ok_or(ResponseError::UnknownMemberId)?;
            group.check(id, instance, request.generation_id)?;
            group.sync(id, assignments, Instant::now())
        });
        match waiting {
            Ok(synced) => synced.await.unwrap_or_else(|_| sync_error(ResponseError::UnknownMemberId)),
            Err(error) => sync_error(error),
        }
    }

    pub(super) fn heartbeat(&self, request: HeartbeatRequest) -> HeartbeatResponse {
        let alive = self.groups.known(&request.group_id, |group| {
            group.check(&request.member_id, request.group_instance_id.as_ref(), request.generation_id)?;
            group.heartbeat(&request.member_id, Instant::now())
        });
        HeartbeatResponse::default().with_error_code(code(alive))
    }

    pub(super) fn leave_group(&self, request: LeaveGroupRequest, version: i16) -> LeaveGroupResponse {
        let leave = |id: &StrBytes, instance: Option<&StrBytes>| {
            code(self.groups.known(&request.group_id, |group| group.leave(id, instance, Instant::now())))
        };
        if version < 3 {
            return LeaveGroupResponse::default().with_error_code(leave(&request.member_id, None));
        }
        let members = request.members.iter().map(|member| {
            MemberResponse::default()
                .with_error_code(leave(&member.member_id, member.group_instance_id.as_ref()))
                .with_member_id(member.member_id.clone())
                .with_group_instance_id(member.group_instance_id.clone())
        });
        LeaveGroupResponse::default().with_members(members.collect())
    }

    pub(super) fn describe_groups(&self, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
        let groups = request.groups.into_iter().map(|id| {
            let described = self.groups.with(&id, |group| {
                let group = group?;
                let answer = DescribedGroup::default()
                    .with_group_state(text(group.phase.name()))
                    .with_protocol_type(group.protocol_type.clone())
                    .with_protocol_data(group.protocol.clone())
                    .with_members(group.described());
                Some(answer)
            });
            let answer = described.map_or_else(|| self.describe_without_members(&id), Ok);
            let answer = answer.unwrap_or_else(|error| DescribedGroup::default().with_error_code(error.code()));
            answer.with_group_id(id)
        });
        DescribeGroupsResponse::default().with_groups(groups.collect())
    }

    fn describe_without_members(&self, group: &str) -> Result<DescribedGroup, ResponseError> {
        let answer = DescribedGroup::default();
        Ok(if self.meta.committed(group).map_err(store_failed)?.is_empty() {
            answer.with_group_state(text("Dead"))
        } else {
            answer.with_group_state(text(Phase::Empty.name())).with_protocol_type(text("consumer"))
        })
    }

    pub(super) fn list_groups(&self, request: ListGroupsRequest, version: i16) -> ListGroupsResponse {
        let stored = match self.meta.groups() {
            Ok(stored) => stored,
            Err(error) => return ListGroupsResponse::default().with_error_code(store_failed(error).code()),
        };
        let mut groups: BTreeMap<String, (StrBytes, &str)> =
            stored.into_iter().map(|name| (name, (text("consumer"), Phase::Empty.name()))).collect();
        for (name, group) in self.groups.0.lock().iter() {
            groups.insert(name.clone(), (group.protocol_type.clone(), group.phase.name()));
        }
        let wanted = |filter: &[StrBytes], value: &str| {
            filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
        };
        groups
            .retain(|_, (_, state)| wanted(&request.states_filter, state) && wanted(&request.types_filter, "classic"));
        let listed = groups.into_iter().map(|(name, (protocol_type, state))| {
            let answer = ListedGroup::default().with_group_id(GroupId(text(name))).with_protocol_type(protocol_type);
            let answer = if version >= 4 { answer.with_group_state(text(state)) } else { answer };
            if version >= 5 { answer.with_group_type(text("classic")) } else { answer }
        });
        ListGroupsResponse::default().with_groups(listed.collect())
    }

    pub(super) fn delete_groups(&self, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
        let results = request.groups_names.into_iter().map(|id| {
            let deleted = self.delete_group(&id);
            DeletableGroupResult::default().with_group_id(id).with_error_code(code(deleted))
        });
        DeleteGroupsResponse::default().with_results(results.collect())
    }

    fn delete_group(&self, group: &str) -> Result<(), ResponseError> {
        if self.groups.with(group, |group| group.is_some_and(|group| !group.is_empty())) {
            return Err(ResponseError::NonEmptyGroup);
        }
        match self.meta.forget(group, |_, _| true).map_err(store_failed)? {
            0 => Err(ResponseError::GroupIdNotFound),
            _ => Ok(()),
        }
    }
}
