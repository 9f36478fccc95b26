package install

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ferryman"
)

// maxTries is how often in a row a download may bring nothing new before it is given up.
const maxTries = 5

var (
	errShort   = errors.New("the artefact ends before its size")
	errStalled = errors.New("the connection brings nothing")
)

func (s *Store) downloads() string { return filepath.Join(s.base, "downloads") }

func (s *Store) part(sha string) string { return filepath.Join(s.downloads(), sha+".part") }

func (s *Store) validatorPath(sha string) string { return filepath.Join(s.downloads(), sha+".json") }

// validator is what a server must confirm before a download goes on in the middle (RFC 9110, 13.1.5).
type validator struct {
	URL     string `json:"url"`
	IfRange string `json:"ifRange"`
}

// discard forgets what was fetched of an artefact.
func (s *Store) discard(sha string) {
	for _, path := range []string{s.part(sha), s.validatorPath(sha)} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.log.Warn("cannot remove a download", "path", path, "err", err)
		}
	}
}

// fetch returns the whole artefact, verified, at its beginning. The file that is returned is the one that was verified, whatever its name leads to later.
func (s *Store) fetch(ctx context.Context, a ferryman.Archive) (*os.File, error) {
	u, err := url.Parse(a.URL)
	if err != nil {
		return nil, err
	}
	switch {
	case a.Size <= 0:
		return nil, refuse("its size in the document is %d", a.Size)
	case u.User != nil:
		return nil, errors.New("the URL holds a user name or password, which would end up in logs: serve the artefact without authentication, or give a URL that needs none")
	case u.Scheme != "file" && u.Scheme != "http" && u.Scheme != "https", u.Scheme != "file" && u.Host == "":
		return nil, errors.New("the URL is none of http://host/…, https://host/… and file:///…")
	}
	if err := os.MkdirAll(s.downloads(), 0o700); err != nil {
		return nil, err
	}
	f, resumed, err := s.fetchOnce(ctx, a, u)
	if resumed && errors.Is(err, ErrRefused) {
		// Two halves that do not fit accuse nobody: the first may come from before a power failure.
		s.log.Warn("a resumed download is not what it should be; fetching all of it again", "url", a.URL, "err", err)
		f, _, err = s.fetchOnce(ctx, a, u)
	}
	return f, err
}

func (s *Store) fetchOnce(ctx context.Context, a ferryman.Archive, u *url.URL) (f *os.File, resumed bool, err error) {
	f, err = os.OpenFile(s.part(a.SHA256), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, false, err
	}
	resumed, err = s.complete(ctx, a, u, f)
	if err == nil {
		err = verify(ctx, f, a)
	}
	if err == nil {
		return f, resumed, nil
	}
	info, statErr := f.Stat()
	f.Close()
	if errors.Is(err, ErrRefused) || statErr == nil && info.Size() == 0 {
		s.discard(a.SHA256)
	}
	return nil, resumed, err
}

// complete fetches what the file lacks, in as many tries as it takes while each brings something. resumed says that not all came in one piece.
func (s *Store) complete(ctx context.Context, a ferryman.Archive, u *url.URL, f *os.File) (resumed bool, err error) {
	best, tries, wait := int64(0), 0, s.backOff
	for {
		have, err := s.have(f, a, u)
		if err != nil {
			return resumed, err
		}
		if have > best {
			best, tries, wait = have, 0, s.backOff
		}
		resumed = resumed || have > 0
		if have == a.Size {
			return resumed, nil
		}
		room, err := free(s.base)
		if err != nil {
			return resumed, err
		}
		if room < a.Size-have {
			return resumed, fmt.Errorf("it needs %d bytes, and %s has %d free: %w", a.Size-have, s.base, room, syscall.ENOSPC)
		}
		if u.Scheme == "file" {
			return false, copyLocal(ctx, a, u, f)
		}
		from, err := s.try(ctx, a, f, have)
		resumed = from > 0
		var final *finalError
		if err == nil || errors.Is(err, ErrRefused) || errors.As(err, &final) {
			return resumed, err
		}
		if ctx.Err() != nil {
			return resumed, fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
		if tries++; tries == maxTries {
			if errors.Is(err, errShort) {
				err = refuse("%w", err)
			}
			return resumed, fmt.Errorf("given up after %d tries: %w", tries, err)
		}
		s.log.Info("download interrupted; trying again", "url", a.URL, "have", have, "size", a.Size, "after", wait, "err", err)
		select {
		case <-ctx.Done():
			return resumed, fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-time.After(wait/2 + rand.N(wait)):
		}
		wait = min(2*wait, 10*time.Second)
	}
}

// have says how much of the artefact is there that can be gone on from; the rest is cut off.
func (s *Store) have(f *os.File, a ferryman.Archive, u *url.URL) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	n := info.Size()
	if n == 0 || n == a.Size {
		return n, nil
	}
	if v := s.validator(a.SHA256); n < a.Size && v.URL == u.String() && v.IfRange != "" {
		return n, nil
	}
	return 0, f.Truncate(0)
}

func (s *Store) validator(sha string) (v validator) {
	if raw, err := os.ReadFile(s.validatorPath(sha)); err == nil {
		_ = json.Unmarshal(raw, &v) // one that cannot be read is none: it starts from the beginning
	}
	return v
}

// try makes one request, for what comes after the first have bytes, and returns how many of those it went on from.
func (s *Store) try(ctx context.Context, a ferryman.Archive, f *os.File, have int64) (from int64, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stall := time.AfterFunc(s.stallAfter, func() { cancel(errStalled) })
	defer stall.Stop()

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.URL, nil)
	if err != nil {
		return have, err
	}
	authorize(req, s.tokens)
	req.Header.Set("Accept-Encoding", "identity")
	if have > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
		req.Header.Set("If-Range", s.validator(a.SHA256).IfRange)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		// Without the URL, which after a redirect may hold a signature that does not belong in a log.
		if e := (*url.Error)(nil); errors.As(err, &e) {
			err = e.Err
		}
		return have, stalled(ctx, err)
	}
	defer resp.Body.Close()

	switch resp.StatusCode {
	case http.StatusOK:
		if resp.ContentLength >= 0 && resp.ContentLength != a.Size {
			return 0, refuse("the server offers %d bytes, the document says %d", resp.ContentLength, a.Size)
		}
		if err := s.restart(a, f, resp); err != nil {
			return 0, err
		}
		have = 0
	case http.StatusPartialContent:
		start, total, err := contentRange(resp.Header.Get("Content-Range"))
		if err == nil && start != have {
			err = fmt.Errorf("it begins at %d, not at %d", start, have)
		}
		if err != nil {
			return 0, errors.Join(fmt.Errorf("the server sent another part than asked for: %w", err), f.Truncate(0))
		}
		if total != a.Size {
			return have, refuse("the server offers %d bytes, the document says %d", total, a.Size)
		}
	case http.StatusRequestedRangeNotSatisfiable:
		// It has less than we have, so it never was what we want, or is something else now.
		return have, errors.Join(fmt.Errorf("%w: the server has no byte %d", errShort, have), f.Truncate(0))
	case http.StatusRequestTimeout, http.StatusTooManyRequests:
		return have, fmt.Errorf("the server answers %s", resp.Status)
	default:
		err := fmt.Errorf("the server answers %s", resp.Status)
		if resp.StatusCode/100 == 4 {
			return have, &finalError{err}
		}
		return have, err
	}

	if _, err := f.Seek(have, io.SeekStart); err != nil {
		return have, err
	}
	body := &watchedReader{r: io.LimitReader(resp.Body, a.Size-have), onRead: func() { stall.Reset(s.stallAfter) }}
	n, err := io.Copy(f, body)
	if err == nil && have+n < a.Size {
		err = fmt.Errorf("%w: %d of %d bytes", errShort, have+n, a.Size)
	}
	return have, stalled(ctx, err)
}

// restart empties the file for a download from the beginning, and keeps what is needed to go on with it later.
func (s *Store) restart(a ferryman.Archive, f *os.File, resp *http.Response) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	v := validator{URL: a.URL, IfRange: resp.Header.Get("ETag")}
	if v.IfRange == "" || strings.HasPrefix(v.IfRange, "W/") { // a weak one says nothing about bytes
		v.IfRange = resp.Header.Get("Last-Modified")
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return os.WriteFile(s.validatorPath(a.SHA256), raw, 0o600)
}

// contentRange reads "bytes 100-199/200".
func contentRange(text string) (start, total int64, err error) {
	span, size, ok1 := strings.Cut(strings.TrimPrefix(text, "bytes "), "/")
	first, _, ok2 := strings.Cut(span, "-")
	start, err1 := strconv.ParseInt(first, 10, 64)
	total, err2 := strconv.ParseInt(size, 10, 64)
	if !ok1 || !ok2 || err1 != nil || err2 != nil {
		return 0, 0, fmt.Errorf("Content-Range %q", text)
	}
	return start, total, nil
}

type watchedReader struct {
	r      io.Reader
	onRead func()
}

func (w *watchedReader) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	w.onRead()
	return n, err
}

func stalled(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), errStalled) {
		return errStalled
	}
	return err
}

// copyLocal fetches a file:// artefact. It is copied, so that nobody can change it between the look at its digest and its use.
func copyLocal(ctx context.Context, a ferryman.Archive, u *url.URL, f *os.File) error {
	if u.Host != "" && u.Host != "localhost" {
		return fmt.Errorf("file URL with a host %q: write file:///path", u.Host)
	}
	src, err := os.Open(u.Path)
	if err != nil {
		return err
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a plain file", u.Path)
	}
	if info.Size() != a.Size {
		return refuse("the file has %d bytes, the document says %d", info.Size(), a.Size)
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err = io.Copy(f, &contextReader{ctx: ctx, r: io.LimitReader(src, a.Size)})
	return err
}

// verify reads all of the file and leaves it at its beginning.
func verify(ctx context.Context, f *os.File, a ferryman.Archive) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	h := sha256.New()
	n, err := io.Copy(h, &contextReader{ctx: ctx, r: f})
	if err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); n != a.Size || got != a.SHA256 {
		return refuse("it has %d bytes and sha256 %s, the document says %d and %s", n, got, a.Size, a.SHA256)
	}
	_, err = f.Seek(0, io.SeekStart)
	return err
}

// free is how many bytes an ordinary user may still write to the file system of path.
func free(path string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", path, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}
