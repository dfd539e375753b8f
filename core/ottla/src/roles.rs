/// What a handle is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It produces.
    Producer,
    /// It consumes.
    Consumer,
}
/// Who is to answer a request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Route {
    /// Any broker.
    Any,
    /// The controller.
    Controller,
    /// The coordinator of a consumer group.
    GroupCoordinator(ottla_protocol::Str),
    /// The leader of a partition.
    Leader(ottla_protocol::Str, i32),
    /// This broker.
    Node(i32),
}
