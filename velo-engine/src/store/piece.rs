//! What nodes say while they are at work.

use sqlx::PgExecutor;
use std::time::Duration;

use super::failure::interval;
use crate::run_id::RunId;

/// Pieces that are kept of a run; older ones go.
pub(crate) const KEPT: i64 = 1_000;
/// How long a run that says nothing more keeps its pieces.
pub(crate) const LASTS: Duration = Duration::from_secs(3_600);
/// Runs whose pieces one statement removes.
const PRUNED: i64 = 100;

/// Something that an attempt said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewPiece {
    pub(crate) run: RunId,
    pub(crate) fence: i64,
    pub(crate) seq: i32,
    pub(crate) task: i32,
    pub(crate) attempt: i32,
    pub(crate) node: String,
    pub(crate) kind: PieceKind,
    pub(crate) name: String,
    pub(crate) start: i64,
    pub(crate) body: String,
    pub(crate) lost: i32,
}

/// What kind of thing it said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PieceKind {
    Text,
    Custom,
}

impl PieceKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Custom => "custom",
        }
    }
}

// What an attempt says whose lease is gone is left out: nobody will commit it. In the order of the runs, so
// that two writers do not wait for each other.
pub(crate) const ADD: &str = "\
-- velo: piece.add
with given as (
  select *
  from unnest($1::bigint[], $2::bigint[], $3::integer[], $4::integer[], $5::integer[], $6::text[],
              $7::text[], $8::text[], $9::bigint[], $10::text[], $11::integer[])
       with ordinality as g (run_id, fence, seq, task, attempt, node, kind, name, start, body, lost, place)
  where exists (select from velo.queue q
                where q.run_id = g.run_id and q.branch = 0 and q.fence = g.fence and q.worker is not null)
), base as (
  select (extract(epoch from clock_timestamp()) * 1000000)::bigint as id
), head as (
  insert into velo.piece_head as h (run_id, first_id, last_id)
  select g.run_id, b.id + 1, b.id + count(*)
  from given g, base b
  group by g.run_id, b.id
  order by g.run_id
  on conflict (run_id) do update
  set last_id = h.last_id + 1 + excluded.last_id - excluded.first_id, at = clock_timestamp()
  returning h.run_id, h.last_id
), added as (
  insert into velo.piece (run_id, id, seq, task, attempt, fence, node, kind, name, start, body, lost)
  select g.run_id, h.last_id + 1 - g.back, g.seq, g.task, g.attempt, g.fence, g.node, g.kind, g.name, g.start, g.body, g.lost
  from (select *, row_number() over (partition by run_id order by place desc) as back from given) g
  join head h on h.run_id = g.run_id
  where g.back <= $12
)
delete from velo.piece p
using head h
where p.run_id = h.run_id
  and p.id <= h.last_id - $12";

/// Adds pieces, those of a run in the given order.
pub(crate) async fn add(db: impl PgExecutor<'_>, pieces: &[NewPiece]) -> Result<(), sqlx::Error> {
    fn column<'a, T>(pieces: &'a [NewPiece], of: impl Fn(&'a NewPiece) -> T) -> Vec<T> {
        pieces.iter().map(of).collect()
    }
    sqlx::query(ADD)
        .bind(column(pieces, |piece| piece.run))
        .bind(column(pieces, |piece| piece.fence))
        .bind(column(pieces, |piece| piece.seq))
        .bind(column(pieces, |piece| piece.task))
        .bind(column(pieces, |piece| piece.attempt))
        .bind(column(pieces, |piece| piece.node.as_str()))
        .bind(column(pieces, |piece| piece.kind.as_str()))
        .bind(column(pieces, |piece| piece.name.as_str()))
        .bind(column(pieces, |piece| piece.start))
        .bind(column(pieces, |piece| piece.body.as_str()))
        .bind(column(pieces, |piece| piece.lost))
        .bind(KEPT)
        .execute(db)
        .await?;
    Ok(())
}

pub(crate) const PRUNE: &str = "\
-- velo: piece.prune
with gone as (
  delete from velo.piece_head h
  where h.run_id in (select o.run_id
                     from velo.piece_head o
                     where o.at < clock_timestamp() - $1::interval
                     limit $2
                     for update skip locked)
  returning h.run_id
)
delete from velo.piece p
using gone g
where p.run_id = g.run_id";

/// Removes what runs have said that have been silent for [`LASTS`].
pub(crate) async fn prune(db: impl PgExecutor<'_>) -> Result<(), sqlx::Error> {
    sqlx::query(PRUNE)
        .bind(interval(LASTS))
        .bind(PRUNED)
        .execute(db)
        .await?;
    Ok(())
}
