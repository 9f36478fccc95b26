package apiserver

import (
	"net/http"
	"path/filepath"
	"syscall"
)

// getArtefact serves one regular file below the directory, in ranges where
// asked. Nothing is listed, and no link leads out.
func (s *Server) getArtefact(w http.ResponseWriter, r *http.Request) {
	allow(w, downloadTimeout)
	name := filepath.FromSlash(r.PathValue("path"))
	// Without O_NONBLOCK, the open of a named pipe would never return.
	file, err := s.artefacts.OpenFile(name, syscall.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, info.Name(), info.ModTime(), file)
}
