//! Registering, logging in and out, in both modes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tracing::{debug, info, warn};

use super::{Context, Reply, State, done, refusal, reply};
use crate::auth::AuthError;
use crate::config::SecondLogin;
use crate::hub::{Identity, Session};
use crate::limits::Source;
use crate::node::{Node, wall_ms};
use crate::outbox::Backlog;
use crate::protocol::answer::{self, HelloResult, LoginResult, RegisterResult};
use crate::protocol::command::{Hello, Login, Register, Resume};
use crate::protocol::request::BadRequest;
use crate::protocol::{
    ErrorCode, MAX_HISTORY_PAGE, MAX_TEXT_BYTES, ORIGINAL_MAX_BYTES, Presence, Refusal, Role, VERSION, msgid, original,
};
use crate::push::Push;
use crate::store::{
    self, Claim, ClaimPolicy, Claimed, Credentials, Friendship, Location, Overview, Page, StoreError, Unread, User,
    UserId,
};

/// Messages that the answer to an original login could take in, were they as short as can be.
const ORIGINAL_BACKLOG: usize = 10;

/// HELLO.
pub(super) fn hello(context: &mut Context<'_>, hello: Hello) -> Result<Reply, Refusal> {
    if context.state.identity.is_some() {
        return Err(Refusal::new(ErrorCode::AlreadyLoggedIn, "HELLO comes before the login"));
    }
    context.state.is_modern = true;
    context.session.with(|outbox, _| outbox.is_modern = true);
    debug!(session = context.session.id.0, client = hello.client, "modern mode");
    let config = &context.node.config;
    reply(HelloResult {
        version: VERSION,
        server: concat!("chat-server/", env!("CARGO_PKG_VERSION")).into(),
        node: context.node.name.clone(),
        max_frame: config.max_frame_bytes as u64,
        max_text: MAX_TEXT_BYTES as u64,
        max_history: MAX_HISTORY_PAGE,
        ping_after_ms: config.ping_after_ms,
        idle_timeout_ms: config.idle_timeout_ms,
    })
}

/// REGISTER.
pub(super) async fn register(context: &mut Context<'_>, register: Register) -> Result<Reply, Refusal> {
    if context.state.identity.is_some() {
        return Err(Refusal::new(ErrorCode::AlreadyLoggedIn, "log out first"));
    }
    let source = Source::from(context.session.address);
    limit(context.node.registrations_from.take(source, Instant::now()), "registrations from this address")?;
    let store = context.store()?;
    let hash = context.node.auth.hash(&register.password).await.map_err(|error| auth_refusal(&error))?;
    let id = store.register(&register.name, &hash).await.map_err(|error| refusal(&error))?;
    info!(user = id.get(), session = context.session.id.0, "registered");
    if context.state.is_modern {
        return reply(RegisterResult { id: id.get() });
    }
    context.session.send(original::register_ack(id.get()));
    Ok(Reply::Sent)
}

/// LOGIN.
pub(super) async fn login(context: &mut Context<'_>, rid: Option<u64>, login: Login) -> Result<Reply, Refusal> {
    let user = check(context, login).await?;
    let displaced = claim(context, &user).await?;
    if !context.state.is_modern {
        return begin_original(context, user).await;
    }
    let valid = Duration::from_secs(context.node.config.token_s);
    let token = match context.node.store().issue_token(user.id, valid).await {
        Ok(token) => token,
        Err(error) => {
            release(context.node, context.session, user.id).await;
            return Err(refusal(&error));
        }
    };
    let (text, until) = (token.as_str().to_owned(), token.until.0);
    begin_modern(context, rid, msgid::LOGIN, user, displaced, text, until).await
}

/// RESUME.
pub(super) async fn resume(context: &mut Context<'_>, rid: Option<u64>, resume: Resume) -> Result<Reply, Refusal> {
    if context.state.identity.is_some() {
        return Err(Refusal::new(ErrorCode::AlreadyLoggedIn, "log out first"));
    }
    let store = context.store()?;
    let owner = store.check_token(&resume.token).await.map_err(|error| refusal(&error))?;
    let Some(owner) = owner else {
        // Only attempts that fail count: after a node has stopped, thousands may come back from behind one address.
        let source = Source::from(context.session.address);
        limit(context.node.logins_from.take(source, Instant::now()), "attempts to log in from this address")?;
        return Err(Refusal::new(ErrorCode::BadToken, "token: unknown or expired"));
    };
    let displaced = claim(context, &owner.user).await?;
    let valid = Duration::from_secs(context.node.config.token_s);
    let mut until = owner.until;
    if until.0.saturating_sub(wall_ms()) < u64::try_from(valid.as_millis() / 4).unwrap_or(u64::MAX)
        // If it cannot be extended now, it serves a little longer.
        && let Ok(Some(extended)) = context.node.store().extend_token(&resume.token, valid).await
    {
        until = extended;
    }
    begin_modern(context, rid, msgid::RESUME, owner.user, displaced, resume.token, until.0).await
}

/// LOGOUT.
pub(super) async fn logout(context: &mut Context<'_>) -> Result<Reply, Refusal> {
    context.identity()?;
    if let Some(token) = context.state.token.take()
        && let Err(error) = context.node.store().revoke_token(&token).await
    {
        // He said that it should end, so it is not logged out as long as it does not.
        context.state.token = Some(token);
        return Err(refusal(&error));
    }
    // So that the next login, wherever it is, does not get again what was acknowledged.
    let _ = context.node.store().flush_cursors().await;
    leave(context.node, context.session, context.state, false).await;
    context.session.hear();
    done()
}

/// Whether the password is the user's, in the same time whether or not there is such a user.
async fn check(context: &mut Context<'_>, login: Login) -> Result<User, Refusal> {
    if context.state.identity.is_some() {
        return Err(Refusal::new(ErrorCode::AlreadyLoggedIn, "log out first"));
    }
    let (node, now, source) = (context.node, Instant::now(), Source::from(context.session.address));
    limit(node.logins_from.take(source, now), "attempts to log in from this address")?;
    let store = context.store()?;
    let (credentials, unknown) = match (login.id, login.name) {
        (Some(id), _) => match UserId::new(id) {
            Some(id) => (store.credentials(id).await, id.to_string()),
            None => (Ok(None), id.to_string()),
        },
        (None, name) => {
            let name = name.unwrap_or_default();
            (store.credentials_by_name(&name).await, format!("name {name}"))
        }
    };
    let credentials = credentials.map_err(|error| refusal(&error))?;
    let account = credentials.as_ref().map_or(unknown, |credentials| credentials.user.id.to_string());
    // Whoever guesses from one address has used up what that address may, and the owner elsewhere is not locked out. What an
    // address is refused does not count for the account.
    let of_account_from = node.logins_of_account_from.take((account.clone(), source), now);
    limit(of_account_from, "attempts to log in to this account from this address")?;
    limit(node.logins_of_account.take(account, now), "attempts to log in to this account")?;
    let hash = credentials.as_ref().map(|credentials| &credentials.password_hash[..]);
    let is_right = node.auth.verify(&login.password, hash).await.map_err(|error| auth_refusal(&error))?;
    match credentials {
        Some(credentials) if is_right => {
            rehash(node, &credentials, login.password);
            Ok(credentials.user)
        }
        _ => Err(Refusal::new(ErrorCode::BadCredentials, original::TEXT_INVALID)),
    }
}

/// Renews a hash that was made with other costs than the present ones, now that the password is known. The login does not
/// wait for it, and if it fails, there is the next login.
fn rehash(node: &Arc<Node>, credentials: &Credentials, password: String) {
    if !node.auth.is_outdated(&credentials.password_hash) {
        return;
    }
    let (node, user, old) = (Arc::clone(node), credentials.user.id, credentials.password_hash.clone());
    tokio::spawn(async move {
        let new = match node.auth.hash(&password).await {
            Ok(new) => new,
            Err(error) => return debug!(%error, user = user.get(), "a password could not be hashed anew"),
        };
        match node.store().rehash_password(user, &old, &new).await {
            Ok(()) => debug!(user = user.get(), "a password was hashed anew, with the present costs"),
            Err(error) => debug!(%error, user = user.get(), "a password's new hash could not be stored"),
        }
    });
}

/// Makes this the user's session, in the whole cluster. Returns whether another one was displaced.
async fn claim(context: &mut Context<'_>, user: &User) -> Result<bool, Refusal> {
    let (node, session) = (context.node, context.session);
    let location = Location { lease: node.lease, session: session.id };
    let policy = match node.config.second_login {
        SecondLogin::Displace => ClaimPolicy::Displace,
        SecondLogin::Refuse => ClaimPolicy::Refuse,
    };
    let claimed = context.store()?.claim(Claim { user: user.id, location, policy }).await;
    let claimed = claimed.map_err(|error| {
        // It may have been committed all the same.
        if matches!(error, StoreError::Unavailable(_) | StoreError::Failed(_)) {
            node.expect_ghosts();
        }
        refusal(&error)
    })?;
    match claimed {
        Claimed::Yes { displaced } => {
            let displaced = displaced.filter(|displaced| *displaced != location);
            if let Some(displaced) = displaced {
                node.displace(user.id, displaced);
                // What the other one has read here should not be sent again.
                let _ = node.store().flush_cursors().await;
            }
            Ok(displaced.is_some())
        }
        Claimed::InUse { until, .. } => {
            let wait = Duration::from_millis(until.0.saturating_sub(wall_ms()));
            Err(Refusal::new(ErrorCode::AccountInUse, original::TEXT_IN_USE).retry_after(wait))
        }
    }
}

/// Answers a modern login, then lets everything in that is for the user.
async fn begin_modern(
    context: &mut Context<'_>,
    rid: Option<u64>,
    to: i64,
    user: User,
    displaced: bool,
    token: String,
    token_until: u64,
) -> Result<Reply, Refusal> {
    context.state.token = Some(token.as_str().into());
    let result = LoginResult { id: user.id.get(), name: user.name.clone(), token, token_until, displaced };
    begin(context, user, answer::result(to, rid, &result), None).await
}

/// Answers an original login with what fits into its one frame; the rest follows.
async fn begin_original(context: &mut Context<'_>, user: User) -> Result<Reply, Refusal> {
    let backlog = async {
        let overview = context.node.store().overview(user.id).await?;
        let backlog = read_backlog(context.node, &user, &overview.unread).await?;
        Ok::<_, StoreError>((overview, backlog))
    };
    let (overview, backlog) = match backlog.await {
        Ok(both) => both,
        Err(error) => {
            release(context.node, context.session, user.id).await;
            return Err(refusal(&error));
        }
    };
    let frames: Vec<_> = backlog.iter().flat_map(|push| push.original().iter().cloned()).collect();
    let ack = login_ack(&user, &overview, &frames);
    // Whole messages only: one whose pieces did not all fit is sent again as a whole.
    let (mut left, mut taken) = (ack.taken, None);
    for push in &backlog {
        match left.checked_sub(push.original().len()) {
            Some(rest) => (left, taken) = (rest, Some(push)),
            None => break,
        }
    }
    let taken = taken.zip(overview.unread.first()).and_then(|(push, unread)| {
        Some(Backlog { conversation: push.conversation, seen: unread.seen, last: push.seq? })
    });
    begin(context, user, ack.frame, taken).await
}

/// The first of the messages that wait for a user, as far as they may fit into an answer: of one conversation.
async fn read_backlog(node: &Node, user: &User, unread: &[Unread]) -> Result<Vec<Push>, StoreError> {
    let Some(first) = unread.first() else { return Ok(Vec::new()) };
    let page = node.store().history(user.id, first.conversation, Page::After(first.seen), ORIGINAL_BACKLOG).await;
    match page {
        Ok(page) => Ok(page.into_iter().map(Push::stored).take_while(|push| push.sender != user.id).collect()),
        Err(StoreError::Refused(_)) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn login_ack(user: &User, overview: &Overview, offline: &[bytes::Bytes]) -> original::LoginAck {
    let presence = |is_online| if is_online { Presence::Online } else { Presence::Offline };
    let friends: Vec<_> = overview
        .friends
        .iter()
        .filter(|friend| friend.friendship != Friendship::AskedBy)
        .map(|friend| original::Friend {
            id: friend.user.id.get(),
            name: friend.user.name.as_str().into(),
            state: presence(friend.is_online),
        })
        .collect();
    let groups: Vec<_> = overview
        .groups
        .iter()
        .map(|(group, members)| original::Group {
            id: group.id.get(),
            name: group.name.as_str().into(),
            description: group.description.as_str().into(),
            // More than this cannot fit, and making room for them one by one would take long.
            users: members
                .iter()
                .take(ORIGINAL_MAX_BYTES / 32)
                .map(|member| original::Member {
                    id: member.user.id.get(),
                    name: member.user.name.as_str().into(),
                    state: presence(member.is_online),
                    role: role(member.role),
                })
                .collect(),
        })
        .collect();
    original::login_ack(user.id.get(), &user.name, &friends, &groups, offline)
}

/// The store's role in the words of the protocol.
pub(super) fn role(role: store::Role) -> Role {
    match role {
        store::Role::Normal => Role::Normal,
        store::Role::Admin => Role::Admin,
        store::Role::Creator => Role::Creator,
    }
}

/// Opens the session for the user with the answer to his login, which may have messages in it.
async fn begin(
    context: &mut Context<'_>,
    user: User,
    answer: Bytes,
    backlog: Option<Backlog>,
) -> Result<Reply, Refusal> {
    let (node, session) = (context.node, context.session);
    session.log_in(user.id, answer, backlog);
    let identity = Arc::new(Identity { id: user.id, name: user.name });
    context.state.identity = Some(Arc::clone(&identity));
    session.hear();
    if !node.hub.register(identity.id, session) {
        // Displaced already, by a login that was faster; the session's task will end it.
        return Ok(Reply::Sent);
    }
    node.metrics().logins.inc();
    info!(user = identity.id.get(), session = session.id.0, address = %session.address, "logged in");
    node.announce(identity.id);
    node.tell_friends(identity.id, Presence::Online);
    // Registered first, then read: what comes in between is found by one of the two.
    node.heal_after_login(session);
    Ok(Reply::Sent)
}

/// Gives a claim back. Returns whether it was the user's session until now.
async fn release(node: &Node, session: &Session, user: UserId) -> bool {
    match node.store().release(user, Location { lease: node.lease, session: session.id }).await {
        Ok(was_his) => was_his,
        Err(error) => {
            warn!(%error, user = user.get(), "a session could not be released; it is tried again");
            node.expect_ghosts();
            false
        }
    }
}

/// Ends the user's session, not the connection.
pub(crate) async fn leave(node: &Arc<Node>, session: &Arc<Session>, state: &mut State, is_displaced: bool) {
    let Some(identity) = state.identity.take() else { return };
    state.token = None;
    node.hub.unregister(identity.id, session);
    session.with_unflushed(|outbox, _| outbox.log_out());
    if !state.is_modern {
        // Nobody else would know that he has read it, and his next login would show it again.
        let _ = node.store().flush_cursors().await;
    }
    info!(user = identity.id.get(), session = session.id.0, "logged out");
    if is_displaced {
        return;
    }
    if release(node, session, identity.id).await {
        node.announce(identity.id);
        node.tell_friends(identity.id, Presence::Offline);
    }
}

/// Answers a command that was refused, as its mode has it.
pub(super) fn refuse(context: &Context<'_>, to: i64, rid: Option<u64>, refusal: &Refusal) {
    refuse_to(context.node, context.session, context.state, to, rid, refusal);
}

/// Answers a frame that is no command.
pub(super) fn refuse_bad(node: &Node, session: &Session, state: &State, bad: &BadRequest) {
    refuse_to(node, session, state, bad.msgid.unwrap_or(0), bad.rid, &bad.refusal);
}

fn refuse_to(node: &Node, session: &Session, state: &State, to: i64, rid: Option<u64>, refusal: &Refusal) {
    if state.is_modern || (to != msgid::LOGIN && to != msgid::REGISTER) {
        return super::refuse(node, session, to, rid, refusal);
    }
    node.metrics().refused(refusal.code.name());
    let number = refusal.code as u32;
    session.send(if to == msgid::LOGIN {
        match refusal.code {
            ErrorCode::BadCredentials | ErrorCode::BadField => {
                original::login_refused(original::ERRNO_INVALID, original::TEXT_INVALID)
            }
            ErrorCode::AccountInUse => original::login_refused(original::ERRNO_IN_USE, original::TEXT_IN_USE),
            _ => original::login_refused(number, &refusal.text),
        }
    } else {
        match refusal.code {
            ErrorCode::NameTaken | ErrorCode::BadField => {
                original::register_refused(original::ERRNO_INVALID, &refusal.text)
            }
            _ => original::register_refused(number, &refusal.text),
        }
    });
}

fn limit(taken: Result<(), Duration>, what: &str) -> Result<(), Refusal> {
    taken.map_err(|wait| {
        Refusal::new(ErrorCode::RateLimited, format!("too many {what}; wait a moment")).retry_after(wait)
    })
}

fn auth_refusal(error: &AuthError) -> Refusal {
    match error {
        AuthError::Busy(_) => Refusal::new(ErrorCode::Busy, error.to_string()).retry_after(Duration::from_millis(500)),
        AuthError::TooLong => Refusal::bad_field("password", error),
        other => {
            tracing::error!(error = %other, "passwords cannot be checked");
            Refusal::new(ErrorCode::Internal, "a mistake of the server; it is in the log")
        }
    }
}
