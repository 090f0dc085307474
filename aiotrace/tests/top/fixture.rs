//! A machine: a fio, a database and a leaking program.

use aiotrace::{
    event::Handle,
    model::{Name, Severity},
    top::{
        app::{Action, App, Input},
        choice::Choice,
        draw,
        snapshot::{FindingRow, Flags, Identity, Numbers, Own, Row, Snapshot},
    },
};
use ratatui::{
    Terminal,
    backend::TestBackend,
    buffer::Buffer,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};

pub const SECOND: u64 = 1_000_000_000;

fn numbers(requests: u64, bytes: u64, latencies: &[u64]) -> Numbers {
    let mut numbers = Numbers { requests, reaped: requests, bytes, ..Numbers::default() };
    latencies.iter().for_each(|it| numbers.latency.record(*it));
    numbers
}

fn row(pid: u32, name: &str, contexts: u64, charge: u64, now: Numbers) -> Row {
    let mut row = Row::new(Identity::Process(pid, u64::from(pid) * 10), pid, name);
    (row.contexts, row.charge) = (Some(contexts), Some(charge));
    (row.in_flight, row.unreaped) = (Some(now.requests / 50), Some(0));
    row.unit = Some("db.service".to_owned());
    row.idle = Some(12 * SECOND);
    row.now = now.clone();
    row.all = now;
    row
}

fn context(pid: u32, number: u64, charge: u64, now: Numbers) -> Row {
    let handle = Handle(0x7f00_0000_0000 + number * 0x1000);
    let mut row = row(pid, "leaky", 1, charge, now);
    row.id = Identity::Context(pid, u64::from(pid) * 10, handle);
    row.what = format!("{:#x}", handle.0);
    row
}

/// The moment of this number, from 1.
pub fn snapshot(moment: u64) -> Snapshot {
    let grows = 1 + moment % 7;
    let fio = numbers(8100 * grows, 127_000_000, &[180_000, 190_000, 2_100_000]);
    let mut database = numbers(900, 380_000_000, &[1_200_000, 30_000_000]);
    database.errors = 3;
    database.eagain = 2;
    let mut processes = vec![
        row(21_524, "fio", 1, 2048, fio.clone()),
        row(17_344, "mariadbd", 64, 16_384, database),
        row(4711, "leaky", 40, 42_000, Numbers::default()),
    ];
    processes[1].unreaped = Some(248);
    processes[1].flags = Flags { errors: 0, warnings: 1, infos: 2 };
    processes[2].flags = Flags { errors: 2, warnings: 0, infos: 0 };
    processes[2].in_flight = None;
    let mut contexts: Vec<Row> =
        (0..40).map(|it| context(4711, it, 1050, Numbers::default())).collect();
    contexts.push(context(21_524, 900, 2048, fio));
    let finding = |place, pid, name, severity, context, text: &str| FindingRow {
        place,
        time: moment.saturating_sub(2 + place) * SECOND,
        pid,
        process: if pid == 4711 { "leaky".into() } else { "mariadbd".into() },
        name,
        severity,
        context,
        text: text.into(),
    };
    Snapshot {
        time: moment * SECOND,
        length: SECOND,
        since: moment * SECOND,
        every: SECOND,
        asked: SECOND,
        limit: Some((61_440, 65_536)),
        calls: 9000,
        source: "trampoline probes".into(),
        lost: 0,
        own: Some(Own { cpu: 0.4, memory: 64 << 20, each_call: Some(380) }),
        processes,
        contexts,
        descriptors: None,
        findings: vec![
            finding(
                0,
                4711,
                Name::ContextLeak,
                Severity::Error,
                Some(Handle(0x7f00_0000_0000)),
                "nobody can use or end this context: its ring was unmapped",
            ),
            finding(1, 17_344, Name::SubmitEagain, Severity::Warning, None, "io_submit = EAGAIN"),
        ],
        more_findings: 0,
        counted: true,
    }
}

/// A screen of this size that has seen some moments.
pub fn app((width, height): (u16, u16), moments: u64) -> App {
    let mut app = App::new(Choice::default(), true, false);
    app.handle(Input::Size(width, height));
    for moment in 1..=moments {
        app.handle(Input::Snapshot(Box::new(snapshot(moment))));
    }
    app
}

pub fn key(code: KeyCode) -> Input {
    Input::Key(KeyEvent::new(code, KeyModifiers::NONE))
}

/// Presses keys; `\n` is Enter, `\x1b` is Esc.
pub fn press(app: &mut App, keys: &str) -> Action {
    let mut last = Action::None;
    for letter in keys.chars() {
        last = app.handle(key(match letter {
            '\n' => KeyCode::Enter,
            '\x1b' => KeyCode::Esc,
            letter => KeyCode::Char(letter),
        }));
    }
    last
}

/// The frame, with its styles.
pub fn frame(app: &App) -> Buffer {
    let (width, height) = app.size;
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| {
            let area = frame.area();
            draw::draw(app, area, frame.buffer_mut());
        })
        .unwrap();
    terminal.backend().buffer().clone()
}

/// The frame as text.
pub fn text(app: &App) -> String {
    let buffer = frame(app);
    let width = usize::from(app.size.0.max(1));
    let cells: Vec<&str> = buffer.content.iter().map(|it| it.symbol()).collect();
    cells.chunks(width).map(|it| it.concat().trim_end().to_owned() + "\n").collect()
}
