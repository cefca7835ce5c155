use hawser_api::core::Service;

use super::*;

const SERVICE: Kind = Kind::of::<Service>();

struct Fixture {
    dir: tempfile::TempDir,
    board: Arc<Board>,
    tree: Tree,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let board = Board::new();
        let tree = Tree::new(fs::canonicalize(dir.path()).unwrap(), Arc::clone(&board));
        Self { dir, board, tree }
    }

    fn write(&self, name: &str, port: &str) {
        let text = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: a, namespace: shop}}\nspec:\n  ports:\n  - port: {port}"
        );
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.dir.path().join(name)).unwrap();
    }

    fn port(&self) -> Option<i64> {
        let object = self.board.get(SERVICE, &Key::namespaced("shop", "a"))?;
        object.value()["spec"]["ports"][0]["port"].as_i64()
    }

    /// Looks at everything until the object is as wanted.
    fn until(&mut self, port: Option<i64>) {
        for _ in 0..3000 {
            self.tree.refresh_all();
            if self.port() == port {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("port is {:?}, not {port:?}", self.port());
    }
}

#[test]
fn a_fresh_file_is_used_only_when_it_is_closed_or_settled() {
    let mut site = Fixture::new();
    site.write("a.yaml", "1");
    site.tree.refresh_all();
    assert_eq!(site.port(), Some(1));
    // Half of `port: 20`.
    site.write("a.yaml", "2");
    site.tree.refresh(Path::new("a.yaml"), false);
    assert_eq!((site.port(), site.tree.is_unsettled()), (Some(1), true));
    site.write("a.yaml", "20");
    site.tree.refresh(Path::new("a.yaml"), true);
    assert_eq!(site.port(), Some(20));
    site.write("a.yaml", "3");
    site.until(Some(3));
    assert!(!site.tree.is_unsettled());
}

#[test]
fn an_operators_file_gets_a_moment_to_come_back() {
    let mut site = Fixture::new();
    site.write("a.yaml", "1");
    site.tree.refresh_all();
    site.remove("a.yaml");
    site.tree.refresh(Path::new("a.yaml"), false);
    assert_eq!((site.port(), site.tree.is_unsettled()), (Some(1), true));
    site.write("a.yaml", "2");
    site.tree.refresh(Path::new("a.yaml"), true);
    assert_eq!(site.port(), Some(2));
    site.remove("a.yaml");
    site.until(None);
}

#[test]
fn a_process_means_what_it_does_at_once() {
    let mut site = Fixture::new();
    let name = "generated/agent-n1/Service/shop_a.yaml";
    site.write(name, "1");
    site.tree.refresh_all();
    site.write(name, "2");
    site.tree.refresh(Path::new(name), false);
    assert_eq!(site.port(), Some(2));
    site.remove(name);
    site.tree.refresh(Path::new(name), false);
    assert_eq!((site.port(), site.tree.is_unsettled()), (None, false));
}

#[test]
fn at_the_start_the_oldest_file_counts() {
    let mut site = Fixture::new();
    for (name, age) in [("c.yaml", 1), ("a.yaml", 2), ("b.yaml", 3)] {
        site.write(name, &age.to_string());
        let file = fs::File::options().append(true).open(site.dir.path().join(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(1000 * age)).unwrap();
    }
    site.tree.refresh_all();
    assert_eq!(site.port(), Some(3));
    site.tree.refresh_all();
    let problems: Vec<String> = site.tree.problems().iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems.iter().all(|problem| problem.contains("b.yaml has it too")), "{problems:?}");
}

#[test]
fn too_many_files_are_refused_and_the_known_ones_stay() {
    let mut site = Fixture::new();
    site.tree.max_files = 2;
    site.write("a.yaml", "1");
    site.tree.refresh_all();
    for name in ["0.yaml", "1.yaml", "2.yaml", "3.yaml"] {
        fs::write(site.dir.path().join(name), "").unwrap();
    }
    let refused = |site: &Fixture| site.tree.problems().iter().any(|p| p.to_string().contains("more than 2 files"));
    // Fresh files are not read before they have settled.
    for _ in 0..3000 {
        site.tree.refresh_all();
        if refused(&site) {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(refused(&site), "{:?}", site.tree.problems());
    assert_eq!(site.port(), Some(1));
    for name in ["0.yaml", "1.yaml", "2.yaml", "3.yaml"] {
        site.remove(name);
    }
    site.until(Some(1));
    assert_eq!(site.tree.problems(), []);
}

#[test]
fn the_newest_status_counts() {
    let mut site = Fixture::new();
    site.write("a.yaml", "1");
    for (folder, age) in [("agent-n1", 20), ("agent-n2", 10)] {
        let name = format!("generated/{folder}/status/Service/shop_a.yaml");
        let path = site.dir.path().join(&name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text =
            format!("apiVersion: v1\nkind: Service\nmetadata: {{name: a, namespace: shop}}\nstatus: {{by: {folder}}}");
        fs::write(&path, text).unwrap();
        let file = fs::File::options().append(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
    }
    site.tree.refresh_all();
    let object = site.board.get(SERVICE, &Key::namespaced("shop", "a")).unwrap();
    assert_eq!(object.status().unwrap()["by"], "agent-n2");
    assert_eq!(site.tree.orphans(), Vec::<PathBuf>::new());
    site.remove("a.yaml");
    site.until(None);
    assert_eq!(site.tree.orphans().len(), 2);
}
