//! Reads the table of contents that `pg_restore --list --verbose` prints, and selects from it what some tables need.
//!
//! Pure: text in, selection out. Entries are told apart by their dump ids and by the OIDs of what they describe.

use std::collections::{BTreeMap, BTreeSet};

/// `pg_class`, as the catalog of tables is named in the list.
const PG_CLASS: u32 = 1259;

/// Entries that belong to a table and come with it, if all that they need comes as well. A view that reads the table
/// does not belong to it.
const BELONGINGS: [&str; 18] = [
    "ACL",
    "CHECK CONSTRAINT",
    "COMMENT",
    "CONSTRAINT",
    "DEFAULT",
    "FK CONSTRAINT",
    "INDEX",
    "INDEX ATTACH",
    "POLICY",
    "ROW SECURITY",
    "RULE",
    "SECURITY LABEL",
    "SEQUENCE",
    "SEQUENCE OWNED BY",
    "STATISTICS",
    "STATISTICS DATA",
    "TABLE ATTACH",
    "TRIGGER",
];
/// Belongings that bring what they need along instead of staying away without it.
const DEMANDING: [&str; 7] = ["CHECK CONSTRAINT", "DEFAULT", "INDEX", "POLICY", "RULE", "STATISTICS", "TRIGGER"];
/// What every restore needs: settings of the session.
const ALWAYS: [&str; 3] = ["ENCODING", "STDSTRINGS", "SEARCHPATH"];
/// All first words of the kinds above and of those that others depend on; the longest match wins.
const OTHER_KINDS: [&str; 13] = [
    "BLOB METADATA",
    "BLOB",
    "DATABASE PROPERTIES",
    "DATABASE",
    "EXTENSION",
    "FOREIGN TABLE",
    "MATERIALIZED VIEW DATA",
    "MATERIALIZED VIEW",
    "SEQUENCE SET",
    "SCHEMA",
    "SUBSCRIPTION",
    "TABLE DATA",
    "TABLE",
];

/// One line of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    catalog: u32,
    oid: u32,
    /// `TABLE`, `FK CONSTRAINT`, …; empty for a kind that nothing here depends on.
    kind: String,
    /// What follows the kind: schema, name and owner, not to be told apart where names hold spaces.
    words: String,
    needs: BTreeSet<u32>,
    line: String,
    /// Its place in the list; `pg_restore` keeps the order of the list that it is given.
    position: usize,
}

impl Entry {
    fn is_table(&self) -> bool {
        self.kind == "TABLE" && self.catalog == PG_CLASS
    }
}

/// The table of contents of an archive.
#[derive(Clone, Debug)]
pub(super) struct Contents(BTreeMap<u32, Entry>);

/// What [`Contents::select`] found.
#[derive(Debug)]
pub(super) struct Selection {
    /// The list to give to `pg_restore --use-list`.
    pub(super) list: String,
    /// The OIDs of the selected tables, partitions included.
    pub(super) tables: BTreeSet<u32>,
    /// What belongs to a selected table and had to stay away.
    pub(super) left_out: Vec<String>,
}

impl Contents {
    /// Reads the list. Lines of an unknown shape are not entries.
    pub(super) fn parse(list: &str) -> Self {
        let mut entries: BTreeMap<u32, Entry> = BTreeMap::new();
        let mut last = None;
        for line in list.lines() {
            if let Some(needs) = line.strip_prefix(";\tdepends on:") {
                let needs = needs.split_whitespace().filter_map(|id| id.parse::<u32>().ok());
                if let Some(entry) = last.and_then(|id| entries.get_mut(&id)) {
                    entry.needs.extend(needs);
                }
            } else if let Some((id, mut entry)) = parse_entry(line) {
                last = Some(id);
                entry.position = entries.len();
                entries.insert(id, entry);
            }
        }
        Self(entries)
    }

    /// Gives every table the id that it has in the backup, where the archive was made of another database: one of equal
    /// definitions, or the same one before it was made anew. `tables` are ids, schemas and names.
    ///
    /// Where names with spaces can be read in two ways, the table's own OID decides, and then the longer name.
    pub(super) fn identify<'a>(&mut self, tables: impl Iterator<Item = (u32, &'a str, &'a str)>) {
        let mut starts: Vec<(String, u32)> =
            tables.map(|(id, schema, name)| (format!("{} {} ", schema, name).replace(['\n', '\r'], " "), id)).collect();
        starts.sort_by_key(|(start, _)| std::cmp::Reverse(start.len()));
        for entry in self.0.values_mut().filter(|entry| entry.is_table()) {
            let mut named = starts.iter().filter(|(start, _)| entry.words.starts_with(start)).map(|(_, id)| *id);
            let longest = named.clone().next();
            let known = named.find(|id| *id == entry.oid).or(longest);
            // The backup holds no rows of it: an id that no table has.
            entry.oid = known.unwrap_or(u32::MAX - u32::try_from(entry.position).unwrap_or(0));
        }
    }

    /// The names of the extensions that the archive creates.
    pub(super) fn extensions(&self) -> Vec<String> {
        let extensions = self.0.values().filter(|entry| entry.kind == "EXTENSION");
        extensions.filter_map(|entry| Some(entry.words.strip_prefix("- ")?.trim().to_owned())).collect()
    }

    /// True where the database receives changes from another one.
    pub(super) fn has_subscriptions(&self) -> bool {
        self.0.values().any(|entry| entry.kind == "SUBSCRIPTION")
    }

    /// The OIDs of tables called `name`: with its schema, or without one where the schema is `public`.
    pub(super) fn tables_named(&self, name: &str) -> BTreeSet<u32> {
        let shown = |name: &str| name.replace(['\n', '\r'], " ");
        let mut starts = vec![format!("public {} ", shown(name))];
        starts.extend(name.split_once('.').map(|(schema, name)| format!("{} {} ", shown(schema), shown(name))));
        let tables = self.0.values().filter(|entry| entry.is_table());
        let named = tables.filter(|entry| starts.iter().any(|start| entry.words.starts_with(start)));
        named.map(|entry| entry.oid).collect()
    }

    /// The tables with these OIDs, their partitions, all that they need, and what belongs to them.
    pub(super) fn select(&self, oids: &BTreeSet<u32>) -> Selection {
        let is_wanted = |entry: &Entry| entry.is_table() && oids.contains(&entry.oid);
        let wanted = self.0.iter().filter(|(_, entry)| is_wanted(entry));
        let mut tables: BTreeSet<u32> = wanted.map(|(id, _)| *id).collect();
        self.add_partitions(&mut tables);
        let always = self.0.iter().filter(|(_, entry)| ALWAYS.contains(&entry.kind.as_str()));
        let mut chosen: BTreeSet<u32> = always.map(|(id, _)| *id).collect();
        tables.iter().for_each(|id| self.add_with_needs(*id, &mut chosen));
        let mut left_out = BTreeSet::new();
        loop {
            let before = chosen.len();
            left_out.clear();
            for (id, entry) in self.belongings(&chosen) {
                // A foreign key waits for the table that it points to: it comes only if that was selected as well.
                if DEMANDING.contains(&entry.kind.as_str()) || self.present(entry).all(|need| chosen.contains(&need)) {
                    self.add_with_needs(id, &mut chosen);
                } else {
                    left_out.insert(id);
                }
            }
            if chosen.len() == before {
                break;
            }
        }
        let mut lines: Vec<&Entry> = chosen.iter().map(|id| &self.0[id]).collect();
        lines.sort_by_key(|entry| entry.position);
        Selection {
            list: lines.iter().map(|entry| format!("{}\n", entry.line)).collect(),
            tables: chosen.iter().filter(|id| tables.contains(id)).map(|id| self.0[id].oid).collect(),
            left_out: left_out.iter().map(|id| format!("{} {}", self.0[id].kind, self.0[id].words)).collect(),
        }
    }

    fn add_partitions(&self, tables: &mut BTreeSet<u32>) {
        loop {
            let before = tables.len();
            for attach in self.0.values().filter(|entry| entry.kind == "TABLE ATTACH") {
                // The entry depends on the partition and on its parent; the partition is the one that it is named after.
                let (partition, parent): (Vec<u32>, Vec<u32>) =
                    self.present(attach).partition(|id| self.0[id].words == attach.words);
                if parent.iter().any(|id| tables.contains(id)) {
                    tables.extend(partition);
                }
            }
            if tables.len() == before {
                return;
            }
        }
    }

    fn add_with_needs(&self, id: u32, chosen: &mut BTreeSet<u32>) {
        let mut queue = vec![id];
        while let Some(id) = queue.pop() {
            if chosen.insert(id) {
                queue.extend(self.present(&self.0[&id]));
            }
        }
    }

    /// What depends on a chosen entry, is of a kind that comes along, and is not chosen yet.
    fn belongings(&self, chosen: &BTreeSet<u32>) -> Vec<(u32, &Entry)> {
        let kinds = self.0.iter().filter(|(_, entry)| BELONGINGS.contains(&entry.kind.as_str()));
        let near = kinds.filter(|(id, entry)| !chosen.contains(id) && !entry.needs.is_disjoint(chosen));
        near.map(|(id, entry)| (*id, entry)).collect()
    }

    /// The needs of an entry that are in this archive.
    fn present<'a>(&'a self, entry: &'a Entry) -> impl Iterator<Item = u32> + 'a {
        entry.needs.iter().copied().filter(|id| self.0.contains_key(id))
    }
}

fn parse_entry(line: &str) -> Option<(u32, Entry)> {
    let (id, rest) = line.split_once("; ")?;
    let (catalog, rest) = rest.split_once(' ')?;
    let (oid, rest) = rest.split_once(' ')?;
    let kinds = BELONGINGS.iter().chain(&ALWAYS).chain(&OTHER_KINDS);
    let matching = kinds.filter(|kind| rest.strip_prefix(**kind).is_some_and(|rest| rest.starts_with(' ')));
    let kind = matching.max_by_key(|kind| kind.len()).copied().unwrap_or("");
    let entry = Entry {
        catalog: catalog.parse().ok()?,
        oid: oid.parse().ok()?,
        kind: kind.to_owned(),
        words: rest[kind.len()..].trim_start().to_owned(),
        needs: BTreeSet::new(),
        line: line.to_owned(),
        position: 0,
    };
    Some((id.parse().ok()?, entry))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIST: &str = ";\n; Selected TOC Entries:\n;\n\
        1; 0 0 ENCODING - ENCODING \n\
        2; 3079 16385 EXTENSION - hstore \n\
        10; 1259 100 TABLE public parent owner\n;\tdepends on: 2 2 99\n\
        11; 1259 101 TABLE public with space owner\n\
        20; 0 0 TABLE ATTACH public with space owner\n;\tdepends on: 11 10\n\
        9; 1259 102 TABLE public other owner\n\
        30; 2606 110 FK CONSTRAINT public parent to_other owner\n;\tdepends on: 10 9\n\
        31; 1259 111 VIEW public reads owner\n;\tdepends on: 10\n\
        32; 0 0 COMMENT public TABLE parent owner\n;\tdepends on: 10\n";

    fn check_select(oids: &[u32], expected_ids: &[&str], left_out: &[&str]) {
        let selection = Contents::parse(LIST).select(&oids.iter().copied().collect());
        let ids: Vec<&str> = selection.list.lines().filter_map(|line| line.split(';').next()).collect();
        assert_eq!(ids, expected_ids);
        assert_eq!(selection.left_out, left_out);
    }

    #[test]
    fn a_selection_holds_needs_partitions_and_belongings_in_the_archives_order() {
        check_select(&[100], &["1", "2", "10", "11", "20", "32"], &["FK CONSTRAINT public parent to_other owner"]);
        check_select(&[100, 102], &["1", "2", "10", "11", "20", "9", "30", "32"], &[]);
        check_select(&[101], &["1", "11"], &["TABLE ATTACH public with space owner"]);
    }

    #[test]
    fn tables_and_extensions_are_found_by_name() {
        let contents = Contents::parse(LIST);
        assert_eq!(contents.extensions(), ["hstore"]);
        assert_eq!(contents.tables_named("public.with space"), BTreeSet::from([101]));
        assert_eq!(contents.tables_named("parent"), BTreeSet::from([100]));
        assert_eq!(contents.tables_named("reads"), BTreeSet::new());
    }

    #[test]
    fn tables_of_a_shared_archive_have_the_ids_of_the_backup() {
        let identified = |tables: &[(u32, &str, &str)]| {
            let mut contents = Contents::parse(LIST);
            contents.identify(tables.iter().copied());
            ["parent", "with space", "other"].map(|name| contents.tables_named(name))
        };
        let one = |id: u32| BTreeSet::from([id]);
        // Each has the OID that another has in the archive.
        let moved = [(102, "public", "parent"), (100, "public", "with space"), (101, "public", "other")];
        assert_eq!(identified(&moved), [one(102), one(100), one(101)]);
        let with_another = [moved[0], (7, "public", "with"), moved[1], moved[2]];
        assert_eq!(identified(&with_another), [one(102), one(100), one(101)], "the longer name");
        let [parent, _, other] = identified(&[(9, "public", "with space")]);
        assert!(parent != one(100) && other != one(102) && parent != other, "without rows in the backup");
    }

    proptest! {
        #[test]
        fn whatever_the_list_says_the_selection_is_a_part_of_it(
            lines in prop::collection::vec("([0-9]{1,10}; )?(1259|0|[0-9]{9,11}) [0-9]{1,11} (TABLE|TABLE ATTACH|INDEX|X) (public a o|\\PC{0,20})|;\tdepends on:( [0-9]{1,3}){0,4}|\\PC{0,30}", 0..12),
        ) {
            let mut contents = Contents::parse(&lines.join("\n"));
            contents.identify([(7, "public", "a"), (u32::MAX, "", "")].into_iter());
            let selection = contents.select(&contents.tables_named("a"));
            prop_assert!(selection.list.lines().all(|line| lines.iter().any(|given| given == line)));
        }
    }
}
