//! `[defaults]`: keys of all pools, probes and services that lack their own.

use super::{
    problems::Read,
    schema::{DEFAULTS, POOL_DEFAULTS, PROBE_DEFAULTS, SERVICE_DEFAULTS},
    walk::Table,
};

/// The tables of `[defaults]`; `None` for a table that the file does not have.
pub(super) struct Defaults<'a> {
    pub(super) pool: Option<Table<'a>>,
    pub(super) probe: Option<Table<'a>>,
    pub(super) service: Option<Table<'a>>,
}

pub(super) fn read<'a>(root: &Table<'a>) -> Read<Defaults<'a>> {
    let Some(table) = root.table("defaults", &DEFAULTS)? else {
        return Ok(Defaults { pool: None, probe: None, service: None });
    };
    let pool = table.table("pool", &POOL_DEFAULTS);
    let probe = table.table("probe", &PROBE_DEFAULTS);
    let service = table.table("service", &SERVICE_DEFAULTS);
    Ok(Defaults { pool: pool?, probe: probe?, service: service? })
}
