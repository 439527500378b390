//! Every byte of both files matters, and none is believed before it is checked.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::*;

struct Written {
    dir: tempfile::TempDir,
    schema: RelationSchema,
    info: SegmentInfo,
    good: Vec<Vec<RecordBatch>>,
}

impl Written {
    fn new() -> Self {
        Self::of(wide_relation)
    }

    fn of(schema: impl FnOnce(&RecordBatch) -> RelationSchema) -> Self {
        let rows = wide_rows(0, 12);
        let schema = schema(&rows);
        let dir = tempfile::tempdir().unwrap();
        let ts = UInt64Array::from_iter_values(100..112);
        let info = write_segment(dir.path(), &schema, &rows, Some(&ts), 6, 12).unwrap();
        let mut written = Written {
            dir,
            schema,
            info,
            good: Vec::new(),
        };
        written.good = written.open().unwrap().1.into_iter().map(|column| column.unwrap()).collect();
        written
    }

    /// The segment and its side-car.
    fn files(&self) -> [PathBuf; 2] {
        [
            segment_path(self.dir.path(), self.info.id),
            sidecar_path(self.dir.path(), self.info.id),
        ]
    }

    /// Opens the segment and reads it column by column.
    #[allow(clippy::type_complexity)]
    fn open(&self) -> Result<(Arc<Segment>, Vec<Result<Vec<RecordBatch>>>)> {
        let segment = Segment::open(self.dir.path(), self.info.clone(), None)?;
        let columns = (0..=self.schema.schema.fields().len())
            .map(|column| read_all(&segment, &self.schema, &[column]))
            .collect();
        Ok((segment, columns))
    }

    /// Opening fails, or each column is either refused or as it was; and something notices.
    fn check(&self, what: &str) {
        let (segment, columns) = match self.open() {
            Err(error) => return assert_named(&error, what),
            Ok(opened) => opened,
        };
        for (column, good) in columns.into_iter().zip(&self.good) {
            match column {
                Ok(rows) => assert_eq!(&rows, good, "{what}"),
                Err(error) => assert_named(&error, what),
            }
        }
        assert_named(&segment.verify().expect_err(what), what);
    }
}

#[track_caller]
fn assert_named(error: &StorageError, what: &str) {
    let named = matches!(error, StorageError::Damaged { path, .. } if path.to_string_lossy().contains("0000000000000007"));
    assert!(named, "{what}: {error}");
}

#[test]
fn every_flipped_byte_is_refused_or_harmless() {
    flip_every_byte(&Written::new());
}

#[test]
fn every_flipped_byte_of_a_compressed_segment_is_refused_or_harmless() {
    flip_every_byte(&Written::of(|rows| wide_relation(rows).compressed()));
}

fn flip_every_byte(written: &Written) {
    for path in written.files() {
        let good = fs::read(&path).unwrap();
        // In place: replacing a whole file costs a flush on some file systems.
        let file = fs::File::options().write(true).open(&path).unwrap();
        for at in 0..good.len() {
            file.write_at(&[good[at] ^ [0x01, 0x80, 0xff, 0x10][at % 4]], at as u64).unwrap();
            written.check(&format!("{} byte {at}", path.display()));
            file.write_at(&good[at..=at], at as u64).unwrap();
        }
    }
    written.open().unwrap().0.verify().unwrap();
}

#[test]
fn truncated_and_lengthened_files_are_refused() {
    let written = Written::new();
    for path in written.files() {
        let good = fs::read(&path).unwrap();
        let lengths = (0..20).chain((20..good.len()).step_by(97)).chain(good.len() - 20..good.len());
        for length in lengths {
            fs::write(&path, &good[..length]).unwrap();
            assert_named(&written.open().expect_err("cut"), &format!("{} cut at {length}", path.display()));
        }
        fs::write(&path, [good.as_slice(), &[0; 64]].concat()).unwrap();
        assert_named(&written.open().expect_err("lengthened"), "lengthened");
        fs::write(&path, &good).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(matches!(written.open(), Err(StorageError::Io { .. })));
        fs::write(&path, &good).unwrap();
    }
}

/// Opening, zone maps and bloom filters touch no row: with all of them overwritten they work as before.
#[test]
fn opening_reads_no_rows() {
    let written = Written::new();
    let path = segment_path(written.dir.path(), written.info.id);
    let mut bytes = fs::read(&path).unwrap();
    let segment = Segment::open(written.dir.path(), written.info.clone(), None).unwrap();
    let (start, end) = (
        segment.sidecar.place(0).offset as usize,
        segment.sidecar.facts().tail_offset as usize,
    );
    drop(segment);
    assert!(end - start > bytes.len() / 2);
    bytes[start..end].fill(0xa5);
    fs::write(&path, &bytes).unwrap();
    let segment = Segment::open(written.dir.path(), written.info.clone(), None).unwrap();
    assert_eq!(segment.zone_maps(&written.schema).row_counts.values(), &[6, 6]);
    let encoder = KeyEncoder::new(&written.schema).unwrap();
    let beyond = encoder.encode(&[Arc::new(Int64Array::from(vec![99]))]).unwrap();
    let key = beyond.row(0).data();
    assert!(segment.find(key, crate::key::key_hash(key), &encoder).unwrap().is_empty());
    assert_named(&segment.read(0, &written.schema, &[0]).unwrap_err(), "rows");
}

/// A damaged column does not take the others with it.
#[test]
fn damage_is_told_by_column() {
    let written = Written::new();
    let path = segment_path(written.dir.path(), written.info.id);
    let needle = b"the rather long name of number 8";
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(needle.len()).position(|w| w == needle).unwrap();
    bytes[at] = b'T';
    fs::write(&path, &bytes).unwrap();
    let segment = Segment::open(written.dir.path(), written.info.clone(), None).unwrap();
    assert_eq!(segment.read(0, &written.schema, &[0, 2]).unwrap().num_rows(), 6);
    let error = segment.read(0, &written.schema, &[0, 1]).unwrap_err().to_string();
    assert!(error.contains("column 'name' of batch 0"), "{error}");
    assert!(segment.read(0, &written.schema, &[1]).is_err(), "and again");
}

#[test]
fn another_segments_sidecar_is_refused() {
    let (one, other) = (Written::new(), tempfile::tempdir().unwrap());
    let rows = wide_rows(500, 12);
    write_segment(other.path(), &one.schema, &rows, None, 6, 12).unwrap();
    fs::copy(sidecar_path(other.path(), one.info.id), sidecar_path(one.dir.path(), one.info.id)).unwrap();
    assert_named(&one.open().expect_err("not its own"), "another's side-car");
}
