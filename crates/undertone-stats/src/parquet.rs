//! Item records as a Parquet file for data frames: one column per field, named as in the JSON Lines. `label` and
//! `distractors` are flattened into columns of their own, and `rank` is added.

use std::io;
use std::sync::Arc;

use parquet::basic::{LogicalType, Repetition, Type as Physical};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, FloatType, Int64Type};
use parquet::errors::Result;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{Type, TypePtr};

use crate::record::{ItemRecord, check_records};

/// Records per row group: as many as are copied at a time.
const ROW_GROUP: usize = 1 << 16;

/// A column: its name and its values in record order.
struct Column {
    name: &'static str,
    values: Values,
}

/// The values of a column.
enum Values {
    Text(Vec<ByteArray>),
    Number(Vec<f64>),
    Count(Vec<i64>),
    Truth(Vec<bool>),
    /// Not every record has one.
    MaybeCount(Vec<Option<i64>>),
    /// Every record has a list, which may be empty.
    Floats(Vec<Vec<f32>>),
    Numbers(Vec<Vec<f64>>),
}

/// Records as the bytes of a Parquet file, in the order given.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] around a [`RecordFault`](crate::RecordFault).
pub fn parquet(records: &[&ItemRecord]) -> io::Result<Vec<u8>> {
    check_records(records.iter().copied()).map_err(|fault| io::Error::new(io::ErrorKind::InvalidData, fault))?;
    Ok(written(records).expect("columns of one length, written to memory"))
}

fn columns(records: &[&ItemRecord]) -> Vec<Column> {
    let text = |get: fn(&ItemRecord) -> &str| Values::Text(records.iter().map(|record| get(record).into()).collect());
    let count =
        |get: fn(&ItemRecord) -> usize| Values::Count(records.iter().map(|record| get(record) as i64).collect());
    let truth = |get: fn(&ItemRecord) -> bool| Values::Truth(records.iter().map(|record| get(record)).collect());
    let maybe =
        |get: fn(&ItemRecord) -> Option<i64>| Values::MaybeCount(records.iter().map(|record| get(record)).collect());
    let probabilities =
        |record: &&ItemRecord| record.label.as_ref().map_or_else(Vec::new, |one| one.probabilities.clone());
    let distractors = |record: &&ItemRecord| {
        record.distractors.iter().map(|other| other.nats / other.tokens as f64).collect::<Vec<f64>>()
    };
    [
        ("item", text(|record| &record.item)),
        ("conversation", text(|record| &record.conversation)),
        ("user", text(|record| &record.user)),
        ("kind", text(|record| record.kind.key())),
        ("arm", text(|record| &record.arm)),
        ("nats", Values::Number(records.iter().map(|record| record.nats).collect())),
        ("token_nats", Values::Floats(records.iter().map(|record| record.token_nats.clone()).collect())),
        ("tokens", count(|record| record.tokens)),
        ("bytes", count(|record| record.bytes)),
        ("label_truth", maybe(|record| record.label.as_ref().map(|label| label.truth as i64))),
        ("label_probabilities", Values::Numbers(records.iter().map(probabilities).collect())),
        ("rank", maybe(|record| record.rank().map(|rank| rank as i64))),
        ("distractor_nats_per_token", Values::Numbers(records.iter().map(distractors).collect())),
        ("primary", truth(|record| record.primary)),
        ("quotes_target", truth(|record| record.quotes_target)),
        ("visible_thoughts", count(|record| record.visible_thoughts)),
        ("lacks_words", truth(|record| record.lacks_words)),
        ("reply_tokens_lost", count(|record| record.reply_tokens_lost)),
        ("fold", maybe(|record| record.fold.map(|fold| fold as i64))),
        ("seed", maybe(|record| record.seed.map(|seed| seed as i64))),
    ]
    .into_iter()
    .map(|(name, values)| Column { name, values })
    .collect()
}

fn written(records: &[&ItemRecord]) -> Result<Vec<u8>> {
    let fields = columns(&[]).iter().map(Column::field).collect::<Result<Vec<TypePtr>>>()?;
    let schema = Arc::new(Type::group_type_builder("record").with_fields(fields).build()?);
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(WriterProperties::builder().build()))?;
    for group in records.chunks(ROW_GROUP) {
        let mut rows = writer.next_row_group()?;
        for column in columns(group) {
            column.write(&mut rows)?;
        }
        rows.close()?;
    }
    writer.into_inner()
}

impl Column {
    fn field(&self) -> Result<TypePtr> {
        let (physical, repetition) = match &self.values {
            Values::Text(_) => (Physical::BYTE_ARRAY, Repetition::REQUIRED),
            Values::Number(_) => (Physical::DOUBLE, Repetition::REQUIRED),
            Values::Count(_) => (Physical::INT64, Repetition::REQUIRED),
            Values::Truth(_) => (Physical::BOOLEAN, Repetition::REQUIRED),
            Values::MaybeCount(_) => (Physical::INT64, Repetition::OPTIONAL),
            Values::Floats(_) => (Physical::FLOAT, Repetition::REPEATED),
            Values::Numbers(_) => (Physical::DOUBLE, Repetition::REPEATED),
        };
        let logical = matches!(self.values, Values::Text(_)).then_some(LogicalType::String);
        let builder = Type::primitive_type_builder(self.name, physical);
        Ok(Arc::new(builder.with_repetition(repetition).with_logical_type(logical).build()?))
    }

    fn write(&self, rows: &mut SerializedRowGroupWriter<'_, Vec<u8>>) -> Result<()> {
        let mut column = rows.next_column()?.expect("a column for each field");
        match &self.values {
            Values::Text(values) => column.typed::<ByteArrayType>().write_batch(values, None, None)?,
            Values::Number(values) => column.typed::<DoubleType>().write_batch(values, None, None)?,
            Values::Count(values) => column.typed::<Int64Type>().write_batch(values, None, None)?,
            Values::Truth(values) => column.typed::<BoolType>().write_batch(values, None, None)?,
            Values::MaybeCount(values) => {
                let levels: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
                let values: Vec<i64> = values.iter().copied().flatten().collect();
                column.typed::<Int64Type>().write_batch(&values, Some(&levels), None)?
            }
            Values::Floats(lists) => {
                let [defined, repeated] = levels(lists);
                column.typed::<FloatType>().write_batch(&lists.concat(), Some(&defined), Some(&repeated))?
            }
            Values::Numbers(lists) => {
                let [defined, repeated] = levels(lists);
                column.typed::<DoubleType>().write_batch(&lists.concat(), Some(&defined), Some(&repeated))?
            }
        };
        column.close()
    }
}

/// Parquet's definition and repetition levels of lists: an empty list has one entry in both and no value.
fn levels<T>(lists: &[Vec<T>]) -> [Vec<i16>; 2] {
    let (mut defined, mut repeated) = (Vec::new(), Vec::new());
    for list in lists {
        defined.extend(std::iter::repeat_n(i16::from(!list.is_empty()), list.len().max(1)));
        repeated.extend((0..list.len().max(1)).map(|place| i16::from(place > 0)));
    }
    [defined, repeated]
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use undertone_data::TargetKind;

    use super::*;
    use crate::record::{LabelOutcome, example};

    #[test]
    fn what_is_written_can_be_read_back() {
        let record = |item: &str, token_nats: Vec<f32>, label| ItemRecord {
            conversation: "c".into(),
            kind: TargetKind::ReactionLabel,
            nats: 1.5,
            tokens: 2,
            bytes: 7,
            token_nats,
            label,
            visible_thoughts: 3,
            seed: Some(4),
            ..example(item, "ü")
        };
        let label = LabelOutcome { truth: 1, probabilities: vec![0.25, 0.75] };
        let records = [record("a", vec![1.0, 0.5], Some(label)), record("b", Vec::new(), None)];
        let bytes = parquet(&records.each_ref()).unwrap();
        let reader = SerializedFileReader::new(bytes::Bytes::from(bytes)).unwrap();
        let rows: Vec<String> = reader.get_row_iter(None).unwrap().map(|row| row.unwrap().to_string()).collect();
        assert_eq!(
            rows,
            [
                "{item: \"a\", conversation: \"c\", user: \"ü\", kind: \"reaction_label\", arm: \"past\", nats: 1.5, \
                 token_nats: [1.0, 0.5], tokens: 2, bytes: 7, label_truth: 1, label_probabilities: [0.25, 0.75], \
                 rank: null, distractor_nats_per_token: [], primary: true, quotes_target: false, visible_thoughts: 3, lacks_words: false, reply_tokens_lost: 0, fold: null, seed: 4}",
                "{item: \"b\", conversation: \"c\", user: \"ü\", kind: \"reaction_label\", arm: \"past\", nats: 1.5, \
                 token_nats: [], tokens: 2, bytes: 7, label_truth: null, label_probabilities: [], \
                 rank: null, distractor_nats_per_token: [], primary: true, quotes_target: false, visible_thoughts: 3, lacks_words: false, reply_tokens_lost: 0, fold: null, seed: 4}",
            ]
        );
        assert!(!parquet(&[]).unwrap().is_empty());
    }
}
