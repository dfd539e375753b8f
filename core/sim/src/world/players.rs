//! Scripts that speak the group protocols themselves, in random versions: who there is, and who comes when somebody leaves.
//!
//! What the broker is asked and answers goes through [`Membership`] and [`Sharing`] on its way.

use ottla_protocol::{
    ErrorCode, Uuid,
    messages::{
        create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic},
        create_topics::{CreatableTopic, CreateTopicsRequest},
        offset_fetch::{
            OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic,
            OffsetFetchRequestTopics,
        },
    },
};

use super::{
    members::{Classic, Consumer},
    sharers::{Sharer, Supplier},
    speakers::{Line, Speaker},
    *,
};
use crate::{
    membership::{Membership, REBALANCE_US, SESSION_US},
    sharing::Sharing,
};

/// The group whose members are consumers of both protocols.
pub(super) const GROUP: Str = Str::from_static("k");
/// What it reads.
pub(super) const GROUP_TOPIC: Str = Str::from_static("gm");
/// The share group.
pub(super) const SHARE_GROUP: Str = Str::from_static("s");
/// What it reads.
pub(super) const SHARE_TOPIC: Str = Str::from_static("sh");
/// `share.record.lock.duration.ms`.
const LOCK_MS: i32 = 800;
/// How long all may take to settle when there is no more chaos.
const QUIET_US: u64 = 25_000_000;

/// What a player asks for next, and in which version; `None`: it ends.
pub(super) type Next = Option<(i16, Request)>;

/// It asks for this.
pub(super) fn ask(version: i16, request: Request) -> Next {
    Some((version, request))
}

/// What it does after an answer.
pub(super) enum After {
    Pause(u64),
    Over,
}

/// What else comes of its doing.
pub(super) enum Effect {
    /// The same request comes once more, later.
    Late(i16, Box<Request>),
    /// Records of the shared topic are there for good: partition, first offset, values.
    Produced(i32, i64, Vec<String>),
    Wrong(String),
}

/// Where a player is.
pub(super) struct Scene<'a> {
    pub random: &'a mut Random,
    pub now_us: u64,
    pub chaos: bool,
    pub partitions: i32,
    pub effects: &'a mut Vec<Effect>,
}

impl Scene<'_> {
    /// A number of both.
    pub fn any(&mut self, from: i16, to: i16) -> i16 {
        self.random.between(from as u64, to as u64) as i16
    }

    /// Happens in so many of a thousand cases, and only while there is chaos.
    pub fn mishap(&mut self, per_mille: u64) -> bool {
        self.chaos && self.random.chance(per_mille)
    }
}

pub(super) enum Role {
    /// Makes the topics.
    Setup,
    /// Makes the group's topic larger.
    Grow,
    Consumer(Consumer),
    Classic(Classic),
    Sharer(Sharer),
    Supplier(Supplier),
    /// A copy of a request.
    Late(i16, Request),
    /// Asks for the group's offsets, after everything.
    Offsets,
}

struct Player {
    role: Role,
    line: Line,
}

/// The groups of a run.
pub(super) struct Players {
    random: Random,
    list: Vec<Player>,
    /// Of the group's topic.
    partitions: i32,
    share_partitions: i32,
    grows: bool,
    /// There are classic members too, and they give up only what they must.
    mixes: bool,
    cooperative: bool,
    made: u64,
    pub membership: Option<Membership>,
    pub sharing: Option<Sharing>,
    /// Everybody was sent home.
    over: bool,
}

impl Players {
    pub fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed ^ 0x6d65_6d62),
            list: Vec::new(),
            partitions: 0,
            share_partitions: 0,
            grows: false,
            mixes: false,
            cooperative: false,
            made: 0,
            membership: None,
            sharing: None,
            over: false,
        }
    }

    fn add(&mut self, role: Role) -> usize {
        self.list.push(Player {
            role,
            line: Line::default(),
        });
        self.list.len() - 1
    }

    /// A new process of the group; a static member's has its instance id.
    fn add_member(&mut self, instance: Option<Str>) -> usize {
        self.made += 1;
        let number = self.made;
        let classic = instance.is_none() && self.mixes && self.random.chance(450);
        self.add(if classic {
            Role::Classic(Classic::new(self.cooperative))
        } else {
            let id = format!("m{number}");
            Role::Consumer(Consumer::new(id.as_str().into(), instance))
        })
    }

    fn add_sharer(&mut self, last: bool) -> usize {
        self.made += 1;
        let id = format!("s{}", self.made);
        self.add(Role::Sharer(Sharer::new(id.as_str().into(), last)))
    }

    fn alive(&self) -> impl Iterator<Item = &Role> {
        self.list
            .iter()
            .filter(|it| !it.line.done)
            .map(|it| &it.role)
    }

    /// Each partition is with one member, as members see it.
    fn group_has_settled(&self) -> bool {
        let mut owned: Vec<i32> = Vec::new();
        for role in self.alive() {
            owned.extend(match role {
                Role::Consumer(it) => it.has.iter(),
                Role::Classic(it) => it.has.iter(),
                _ => continue,
            });
        }
        owned.sort_unstable();
        owned.iter().copied().eq(0..self.partitions)
    }

    fn setting_up(&self) -> bool {
        self.alive()
            .any(|it| matches!(it, Role::Setup | Role::Grow | Role::Supplier(_)))
    }

    fn shares_have_settled(&self) -> bool {
        self.sharing.as_ref().is_none_or(Sharing::all_done)
    }

    /// Whether all have come to rest, or will never.
    pub fn has_settled(&self, now_us: u64) -> bool {
        if self.over {
            // Those that look at what is left.
            return self.list.iter().all(|it| it.line.done);
        }
        let groups = self.membership.is_none() || self.group_has_settled();
        !self.setting_up() && groups && self.shares_have_settled()
            || now_us > CHAOS_US + QUIET_US + 1_000_000
    }

    /// The member that is in the highest epoch, as members see it.
    fn newest(&self) -> Option<(Str, i32)> {
        let epochs = self.alive().filter_map(|role| match role {
            Role::Consumer(it) if it.epoch > 0 => Some((it.id.clone(), it.epoch)),
            _ => None,
        });
        epochs.max_by_key(|(_, epoch)| *epoch)
    }

    /// Planted: the request as the broker gets it. The checker knows what the client sent.
    pub fn plant_request(&self, planted: Option<Bug>, envelope: &mut RequestEnvelope) {
        match (planted, &mut envelope.request) {
            (Some(Bug::HandedOverEarly), Request::ConsumerGroupHeartbeat(beat))
                if beat.member_epoch > 0 && beat.topic_partitions.is_none() =>
            {
                beat.topic_partitions = Some(Vec::new());
            }
            (Some(Bug::FencedCommits), Request::OffsetCommit(commit))
                if commit.group_id == GROUP && envelope.api_version >= 9 =>
            {
                if let Some(newest) = self.newest() {
                    (commit.member_id, commit.generation_id_or_member_epoch) = newest;
                }
            }
            (Some(Bug::CommitsBehind), Request::OffsetCommit(commit))
                if commit.group_id == GROUP =>
            {
                let partitions = commit.topics.iter_mut().flat_map(|it| &mut it.partitions);
                for it in partitions.filter(|it| it.committed_offset % 3 == 1) {
                    it.committed_offset = (it.committed_offset - 7).max(0);
                }
            }
            _ => {}
        }
    }
}

/// Planted: the answer as the client gets it.
pub(super) fn plant_response(planted: Option<Bug>, response: &mut Response) {
    let Response::ShareFetch(fetch) = response else {
        return;
    };
    let partitions = fetch.responses.iter_mut().flat_map(|it| &mut it.partitions);
    for data in partitions {
        match planted {
            Some(Bug::DeliveriesUncounted) => {
                for run in &mut data.acquired_records {
                    run.delivery_count = 1;
                }
            }
            Some(Bug::SharesSkipped) => data.acquired_records.retain(|it| it.first_offset % 5 != 3),
            _ => {}
        }
    }
}

/// Errors after which the same request is sent again.
pub(super) fn passes(error: ErrorCode) -> bool {
    error == ErrorCode::UNKNOWN_TOPIC_ID || speakers::passes(error)
}

impl World {
    /// In some runs there are groups of both protocols, in some share groups.
    pub(super) fn prepare_players(&mut self) {
        let it = &mut self.players;
        let random = &mut it.random;
        let consumer = &mut self.config.groups.consumer;
        consumer.session_timeout_ms = (SESSION_US / 1000) as i32;
        let share = &mut self.config.share;
        share.state_partitions = 2;
        share.prune_interval_ms = 700;
        share.group.session_timeout_ms = 1000;
        share.group.auto_offset_reset = ShareOffsetReset::Earliest;
        share.group.delivery_count_limit = random.between(3, 6) as i16;
        share.group.max_record_locks = [8, 2000][random.below(2) as usize];
        share.group.record_lock_duration_ms = match self.planted {
            Some(Bug::AcquiredByTwo) => 30,
            _ => LOCK_MS,
        };
        if random.chance(300) {
            it.partitions = random.between(2, 5) as i32;
            it.grows = random.chance(400);
            it.mixes = random.chance(600);
            it.cooperative = random.chance(500);
            it.membership = Some(Membership::new(GROUP, GROUP_TOPIC));
        }
        if random.chance(250) {
            it.share_partitions = random.between(1, 3) as i32;
            let limit = share.group.delivery_count_limit;
            let lock_us = LOCK_MS as u64 * 1000;
            it.sharing = Some(Sharing::new(SHARE_GROUP, lock_us, limit));
        }
        if it.membership.is_some() || it.sharing.is_some() {
            let first = it.add(Role::Setup);
            self.player_after(first, 1000);
        }
    }

    /// The topics are there: everybody begins.
    fn start_players(&mut self) {
        let it = &mut self.players;
        let mut new = Vec::new();
        if it.membership.is_some() {
            for n in 0..it.random.between(2, 4) {
                let instance = format!("i{n}");
                let is_static = it.random.chance(300);
                new.push(it.add_member(is_static.then(|| instance.as_str().into())));
            }
            if it.grows {
                new.push(it.add(Role::Grow));
            }
        }
        if it.sharing.is_some() {
            let supplier = Supplier::new(&mut it.random);
            new.push(it.add(Role::Supplier(supplier)));
            for _ in 0..it.random.between(2, 3) {
                new.push(it.add_sharer(false));
            }
        }
        for index in new {
            let grows = matches!(self.players.list[index].role, Role::Grow);
            let latest = if grows { CHAOS_US } else { 200_000 };
            let delay = self.players.random.below(latest);
            self.player_after(index, delay);
        }
    }

    /// No more mishaps: somebody must be there.
    pub(super) fn calm_players(&mut self) {
        let it = &mut self.players;
        if it.setting_up() && it.alive().any(|role| matches!(role, Role::Setup)) {
            // They begin later.
            return;
        }
        let mut new = Vec::new();
        let is_member = |it: &Role| matches!(it, Role::Consumer(_) | Role::Classic(_));
        if it.membership.is_some() && !it.alive().any(is_member) {
            new.push(it.add_member(None));
        }
        if it.sharing.is_some() && !it.alive().any(|it| matches!(it, Role::Sharer(_))) {
            new.push(it.add_sharer(false));
        }
        for index in new {
            self.player_after(index, 1000);
        }
    }

    /// Everybody leaves; what became of the groups.
    pub(super) fn end_players(&mut self) {
        let it = &mut self.players;
        it.over = true;
        if it.membership.is_some() && !it.group_has_settled() {
            let what = "the members of the group did not come to have each partition once";
            self.checker.violation(what.into());
        }
        let it = &mut self.players;
        let lost = it.sharing.as_ref().map(Sharing::conclude);
        for what in lost.into_iter().flatten() {
            self.checker.violation(what);
        }
        for index in 0..self.players.list.len() {
            self.player_ends(index);
        }
    }

    /// After everything: the group's offsets, and whether what was done with stays so.
    pub(super) fn read_players(&mut self) {
        let it = &mut self.players;
        let mut new = Vec::new();
        if it.membership.is_some() {
            new.push(it.add(Role::Offsets));
        }
        if it.sharing.is_some() {
            new.push(it.add_sharer(true));
        }
        for index in new {
            self.player_after(index, 1000);
        }
    }

    /// What the two checkers found.
    pub(super) fn notice_players(&mut self) {
        let it = &mut self.players;
        let of_groups = it
            .membership
            .as_mut()
            .map(|it| std::mem::take(&mut it.wrong));
        let of_shares = it.sharing.as_mut().map(|it| std::mem::take(&mut it.wrong));
        for what in of_groups.into_iter().chain(of_shares).flatten() {
            self.checker.violation(what);
        }
    }

    /// The line of a player.
    pub(super) fn player_line(&mut self, index: usize) -> &mut Line {
        &mut self.players.list[index].line
    }

    fn player_after(&mut self, index: usize, us: u64) {
        self.speaks_after(Speaker::Player(index), us);
    }

    fn player_ends(&mut self, index: usize) {
        if !self.speaks_no_more(Speaker::Player(index)) {
            return;
        }
        trace!(self, "player {index} ends");
        let it = &mut self.players;
        if it.over {
            return;
        }
        let (is_member, instance) = match &it.list[index].role {
            Role::Consumer(member) => (true, member.instance.clone()),
            Role::Classic(_) => (true, None),
            Role::Sharer(_) => (false, None),
            _ => return,
        };
        // Somebody else comes, unless others are there and it was the last time.
        if self.chaos && it.random.chance(if instance.is_some() { 950 } else { 850 }) {
            let new = match is_member {
                true => it.add_member(instance),
                false => it.add_sharer(false),
            };
            let delay = it.random.below(700_000);
            self.player_after(new, delay);
        } else if !self.chaos {
            self.calm_players();
        }
    }

    /// It has a connection, and nothing under way.
    pub(super) fn player_speaks(&mut self, index: usize, conn: BrokerConn) {
        let it = &mut self.players;
        let mut effects = Vec::new();
        let mut scene = Scene {
            random: &mut it.random,
            now_us: self.now_us,
            chaos: self.chaos,
            partitions: it.partitions,
            effects: &mut effects,
        };
        let player = &mut it.list[index];
        let next = match &mut player.role {
            Role::Setup => ask(7, create(it.partitions, it.share_partitions)),
            Role::Grow => ask(scene.any(0, 3), grow(it.partitions + 1)),
            Role::Consumer(member) => member.next(&mut scene),
            Role::Classic(member) => member.next(&mut scene),
            Role::Sharer(member) => member.next(&mut scene),
            Role::Supplier(supplier) => supplier.next(&mut scene, it.share_partitions),
            Role::Late(version, request) => ask(*version, request.clone()),
            Role::Offsets => {
                let version = scene.any(2, 9);
                let all: Vec<i32> = (0..it.partitions).collect();
                let request = offsets(version, Uuid::ZERO, &all, None);
                ask(version, Request::OffsetFetch(request))
            }
        };
        match next {
            Some((version, request)) => {
                self.speaks(Speaker::Player(index), conn, version, &request);
            }
            None => self.player_ends(index),
        }
        self.follow_players(effects);
    }

    fn follow_players(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Late(version, request) => {
                    let late = self.players.add(Role::Late(version, *request));
                    let delay = self.players.random.below(2 * SESSION_US + REBALANCE_US / 2);
                    self.player_after(late, delay);
                }
                Effect::Produced(partition, first, values) => {
                    if let Some(sharing) = &mut self.players.sharing {
                        for (offset, value) in (first..).zip(values) {
                            sharing.produced((partition, offset), value);
                        }
                    }
                }
                Effect::Wrong(what) => self.checker.violation(what),
            }
        }
    }

    /// The connection is gone, and with it perhaps an answer; the pause before it is back, if it comes. What was on its way arrives
    /// before the next request does.
    pub(super) fn player_is_cut_off(&mut self, index: usize, waited: bool) -> Option<u64> {
        match &mut self.players.list[index].role {
            Role::Consumer(member) => member.loses_connection(waited),
            Role::Sharer(member) => member.loses_connection(&mut self.players.random),
            Role::Late(..) => {
                self.player_ends(index);
                return None;
            }
            _ => {}
        }
        Some(self.players.random.below(30_000) + self.slowest_us * 4 + 1000)
    }

    pub(super) fn player_hears(&mut self, index: usize, response: Response) {
        let it = &mut self.players;
        let player = &mut it.list[index];
        let mut effects = Vec::new();
        let mut scene = Scene {
            random: &mut it.random,
            now_us: self.now_us,
            chaos: self.chaos,
            partitions: it.partitions,
            effects: &mut effects,
        };
        let retry = After::Pause(20_000);
        let after = match (&mut player.role, &response) {
            (Role::Consumer(member), _) => member.hears(&mut scene, &response),
            (Role::Classic(member), _) => member.hears(&mut scene, &response),
            (Role::Sharer(member), _) => member.hears(&mut scene, &response),
            (Role::Supplier(supplier), Response::Produce(answer)) => {
                supplier.hears(&mut scene, answer)
            }
            (Role::Setup, Response::CreateTopics(answer)) => {
                let there =
                    |it: ErrorCode| it == ErrorCode::NONE || it == ErrorCode::TOPIC_ALREADY_EXISTS;
                match answer.topics.iter().all(|topic| there(topic.error_code)) {
                    true => After::Over,
                    false => retry,
                }
            }
            (Role::Grow, Response::CreatePartitions(answer)) => {
                match answer.results.first().map(|it| it.error_code) {
                    // The answer to an earlier one was lost.
                    Some(ErrorCode::NONE | ErrorCode::INVALID_PARTITIONS) => After::Over,
                    _ => retry,
                }
            }
            (Role::Offsets, Response::OffsetFetch(answer)) => {
                let plain = answer.topics.iter().flat_map(|it| &it.partitions);
                let of_groups = answer.groups.iter().flat_map(|it| &it.topics);
                let of_groups = of_groups.flat_map(|it| &it.partitions);
                let mut known = plain
                    .map(|it| it.error_code)
                    .chain(of_groups.map(|it| it.error_code));
                match known.next() == Some(ErrorCode::NONE) {
                    true => After::Over,
                    false => retry,
                }
            }
            _ => After::Over,
        };
        match after {
            After::Pause(us) => self.player_after(index, us),
            After::Over => {
                match self.players.list[index].role {
                    Role::Setup => self.start_players(),
                    Role::Grow => self.players.partitions += 1,
                    _ => {}
                }
                self.player_ends(index);
            }
        }
        self.follow_players(effects);
    }
}

fn create(of_group: i32, shared: i32) -> Request {
    let topics = [(GROUP_TOPIC, of_group), (SHARE_TOPIC, shared)];
    let topics = topics.into_iter().filter(|(_, count)| *count > 0);
    let topics = topics.map(|(name, num_partitions)| CreatableTopic {
        name,
        num_partitions,
        replication_factor: 1,
        ..Default::default()
    });
    Request::CreateTopics(CreateTopicsRequest {
        topics: topics.collect(),
        timeout_ms: 5000,
        ..Default::default()
    })
}

fn grow(count: i32) -> Request {
    Request::CreatePartitions(CreatePartitionsRequest {
        topics: vec![CreatePartitionsTopic {
            name: GROUP_TOPIC,
            count,
            assignments: None,
        }],
        timeout_ms: 5000,
        ..Default::default()
    })
}

/// The committed offsets of the group; who asks as a member names itself and its epoch.
pub(super) fn offsets(
    version: i16,
    topic_id: Uuid,
    partitions: &[i32],
    member: Option<(Str, i32)>,
) -> OffsetFetchRequest {
    let mut request = OffsetFetchRequest::default();
    if version < 8 {
        request.group_id = GROUP;
        request.topics = Some(vec![OffsetFetchRequestTopic {
            name: GROUP_TOPIC,
            partition_indexes: partitions.to_vec(),
        }]);
        return request;
    }
    let (member_id, member_epoch) = match member.filter(|_| version >= 9) {
        Some((id, epoch)) => (Some(id), epoch),
        None => (None, -1),
    };
    request.groups = vec![OffsetFetchRequestGroup {
        group_id: GROUP,
        member_id,
        member_epoch,
        topics: Some(vec![OffsetFetchRequestTopics {
            name: if version < 10 {
                GROUP_TOPIC
            } else {
                Str::new()
            },
            topic_id: if version < 10 { Uuid::ZERO } else { topic_id },
            partition_indexes: partitions.to_vec(),
        }]),
    }];
    request
}
