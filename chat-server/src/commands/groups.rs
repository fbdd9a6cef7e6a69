//! Groups and their members.

use super::account::role;
use super::{Context, Reply, done, group, refusal, reply, user};
use crate::bus::BusMessage;
use crate::protocol::answer::{CreateGroupResult, GroupInfo, GroupsResult, MemberInfo, MembersResult};
use crate::protocol::command::{CreateGroup, GroupId, Kick, SetRole};
use crate::protocol::event::{Event, GroupChange, GroupEvent};
use crate::protocol::{ErrorCode, Presence, Refusal, Role};
use crate::store::{self, StoreError, UserId};

/// CREATE_GROUP.
pub(super) async fn create(context: &mut Context<'_>, create: CreateGroup) -> Result<Reply, Refusal> {
    let own = context.identity()?;
    let created = context.store()?.create_group(own.id, &create.groupname, &create.groupdesc).await;
    let id = created.map_err(|error| match error.refusal() {
        Some(store::Refusal::NameTaken) => {
            Refusal::new(ErrorCode::GroupNameTaken, "groupname: a group of this name exists")
        }
        _ => refusal(&error),
    })?;
    changed(context, id);
    reply(CreateGroupResult { groupid: id.get() })
}

/// JOIN_GROUP.
pub(super) async fn join(context: &mut Context<'_>, join: GroupId) -> Result<Reply, Refusal> {
    let (own, id) = (context.identity()?, group(join.groupid)?);
    context.store()?.join_group(own.id, id).await.map_err(|error| refusal(&error))?;
    changed(context, id);
    tell(context, id, own.id, own.name.clone(), GroupChange::Joined, None, &[]).await;
    done()
}

/// LEAVE_GROUP.
pub(super) async fn leave(context: &mut Context<'_>, leave: GroupId) -> Result<Reply, Refusal> {
    let (own, id) = (context.identity()?, group(leave.groupid)?);
    let left = context.store()?.leave_group(own.id, id).await.map_err(|error| refusal(&error))?;
    changed(context, id);
    tell(context, id, own.id, own.name.clone(), GroupChange::Left, None, &[]).await;
    if let Some(creator) = left.new_creator {
        let name = name(context, creator).await;
        tell(context, id, creator, name, GroupChange::Role, Some(Role::Creator), &[]).await;
    }
    done()
}

/// KICK.
pub(super) async fn kick(context: &mut Context<'_>, kick: Kick) -> Result<Reply, Refusal> {
    let (own, id, member) = (context.identity()?, group(kick.groupid)?, user("userid", kick.userid)?);
    context.store()?.kick(own.id, member, id).await.map_err(|error| refusal(&error))?;
    changed(context, id);
    let name = name(context, member).await;
    // Whom it is about is no member any more, and should know.
    tell(context, id, member, name, GroupChange::Kicked, None, &[member]).await;
    done()
}

/// SET_ROLE.
pub(super) async fn set_role(context: &mut Context<'_>, set: SetRole) -> Result<Reply, Refusal> {
    let (own, id, member) = (context.identity()?, group(set.groupid)?, user("userid", set.userid)?);
    let new = match set.role {
        Role::Normal => store::Role::Normal,
        Role::Admin => store::Role::Admin,
        Role::Creator => store::Role::Creator,
    };
    context.store()?.set_role(own.id, member, id, new).await.map_err(|error| refusal(&error))?;
    let name = name(context, member).await;
    tell(context, id, member, name, GroupChange::Role, Some(set.role), &[]).await;
    if set.role == Role::Creator {
        tell(context, id, own.id, own.name.clone(), GroupChange::Role, Some(Role::Admin), &[]).await;
    }
    done()
}

/// GROUPS.
pub(super) async fn list(context: &mut Context<'_>) -> Result<Reply, Refusal> {
    let own = context.identity()?.id;
    let groups = context.store()?.groups(own).await.map_err(|error| refusal(&error))?;
    let mut infos = Vec::with_capacity(groups.len());
    for found in groups {
        let members = context.node.members_of(found.id).await.map_err(|error| refusal(&error))?.len();
        infos.push(GroupInfo {
            groupid: found.id.get(),
            groupname: found.name,
            groupdesc: found.description,
            role: role(found.role),
            members: u32::try_from(members).unwrap_or(u32::MAX),
        });
    }
    reply(GroupsResult { groups: infos })
}

/// MEMBERS.
pub(super) async fn members(context: &mut Context<'_>, of: GroupId) -> Result<Reply, Refusal> {
    let (own, id) = (context.identity()?.id, group(of.groupid)?);
    let members = context.store()?.members(own, id).await.map_err(|error: StoreError| refusal(&error))?;
    let members = members.into_iter().map(|member| MemberInfo {
        id: member.user.id.get(),
        name: member.user.name,
        state: if member.is_online { Presence::Online } else { Presence::Offline },
        role: role(member.role),
    });
    reply(MembersResult { members: members.collect() })
}

/// What all nodes remember of the group's members is out of date.
fn changed(context: &Context<'_>, group: store::GroupId) {
    context.node.members.forget(group.get());
    if !context.node.directory.is_alone() {
        context.node.bus.broadcast(BusMessage::Regrouped { group: group.get() }.encode());
    }
}

async fn name(context: &Context<'_>, id: UserId) -> String {
    let users = context.node.store().users(&[id]).await.unwrap_or_default();
    users.into_iter().next().map(|user| user.name).unwrap_or_default()
}

/// Tells the members, and `also` these users, what happened to `id`. It has happened: if they cannot be found now, they will
/// see it in their lists.
async fn tell(
    context: &Context<'_>,
    group: store::GroupId,
    id: UserId,
    name: String,
    event: GroupChange,
    role: Option<Role>,
    also: &[UserId],
) {
    let (Ok(own), Ok(members)) = (context.identity(), context.node.members_of(group).await) else { return };
    let by = (own.id != id).then_some(own.id.get());
    let frame = GroupEvent { groupid: group.get(), id: id.get(), name, event, by, role }.frame();
    let mut users: Vec<UserId> = members.iter().copied().filter(|member| *member != own.id).collect();
    users.extend(also);
    context.node.tell(&users, frame).await;
}
