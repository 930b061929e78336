//! A sink that keeps every piece, and holds the session to its side of the contract.

use std::collections::HashMap;

use async_trait::async_trait;
use dbkeeper::engine::{Downstream, PartPlan, PartSink};

/// The pieces of all parts by name; a part is there only if it has ended.
#[derive(Debug, Default)]
pub(super) struct Recording {
    names: Vec<String>,
    open: Option<(usize, Vec<Vec<u8>>)>,
    ended: HashMap<String, Vec<Vec<u8>>>,
    pushed: u64,
    must_drain: bool,
}

impl Recording {
    pub(super) fn of(parts: &[PartPlan]) -> Self {
        Self { names: parts.iter().map(|part| part.name.clone()).collect(), ..Self::default() }
    }

    pub(super) fn together(sinks: Vec<Self>) -> Self {
        let mut all = Self::default();
        for sink in sinks {
            assert!(sink.open.is_none(), "a part was left open");
            for (name, pieces) in sink.ended {
                assert!(all.ended.insert(name.clone(), pieces).is_none(), "{name} was read twice");
            }
        }
        all
    }

    pub(super) fn pieces(&self, part: &str) -> &[Vec<u8>] {
        self.ended.get(part).unwrap_or_else(|| panic!("part {part:?} was not read"))
    }

    pub(super) fn bytes(&self, part: &str) -> Vec<u8> {
        self.pieces(part).concat()
    }

    pub(super) fn has(&self, part: &str) -> bool {
        self.ended.contains_key(part)
    }
}

#[async_trait]
impl PartSink for Recording {
    async fn begin(&mut self, part: usize) -> Result<(), Downstream> {
        assert!(self.open.is_none(), "a part begins inside another");
        self.open = Some((part, Vec::new()));
        Ok(())
    }

    fn push(&mut self, piece: &[u8]) -> bool {
        assert!(!self.must_drain, "pushed without the drain that was asked for");
        self.open.as_mut().expect("a part has begun").1.push(piece.to_vec());
        self.pushed += 1;
        self.must_drain = self.pushed.is_multiple_of(7);
        self.must_drain
    }

    async fn drain(&mut self) -> Result<(), Downstream> {
        self.must_drain = false;
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn end(&mut self, rows: Option<u64>) -> Result<(), Downstream> {
        let (part, pieces) = self.open.take().expect("a part has begun");
        assert!(rows.is_none_or(|rows| rows == pieces.len() as u64), "the counts differ");
        self.ended.insert(self.names[part].clone(), pieces);
        Ok(())
    }
}
