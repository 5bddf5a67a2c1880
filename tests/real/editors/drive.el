;;; drive.el --- Drives the plugin as a user would  -*- lexical-binding: t; -*-
;; The test beside it stops and starts the broker at the marks.
(require 'jobbroker)

(defvar notices nil)
(setq jobbroker-jobctl (list (getenv "JOBCTL"))
      jobbroker-notify-function (lambda (text) (push (substring-no-properties text) notices)))

(defun mark (name &optional text)
  (let ((file (expand-file-name name (getenv "MARKS"))))
    (write-region (or text "") nil (concat file ".part") nil 'silent)
    (rename-file (concat file ".part") file)))

(defmacro eventually (what condition)
  `(let ((until (+ (float-time) 20)))
     (while (not ,condition)
       (when (> (float-time) until) (error "never happened: %s; notices: %S" ,what notices))
       (accept-process-output nil 0.01))))

(defun check (truth what) (unless truth (error "%S" what)))
(defun noticed (pattern) (seq-count (lambda (text) (string-match-p pattern text)) notices))
(defun newest () (car (jobbroker--sorted (jobbroker--here))))
(defun newest-is (status) (equal (plist-get (newest) :status) status))
(defun text-of (buffer) (with-current-buffer buffer (buffer-substring-no-properties (point-min) (point-max))))

(defun drive ()
  ;; started from the prompt; the list is live; one notice at the end
  (jobbroker-list)
  (cl-letf (((symbol-function 'read-shell-command) (lambda (&rest _) "echo tschüß; exit 3")))
    (call-interactively #'jobbroker-run))
  (eventually "its end" (newest-is "failed"))
  (eventually "a notice" (= 1 (noticed "^job echo.* failed: exit status 3")))
  (check (equal (jobbroker-mode-line) "1 fail") (jobbroker-mode-line))
  (check (string-match-p "echo.*failed: exit status 3" (text-of "*jobs*")) (text-of "*jobs*"))
  (jobbroker-output "echo")
  (let ((name (format "*job %s*" (jobbroker--title (newest)))))
    (eventually "its output" (and (get-buffer name) (string-match-p "tschüß" (text-of name)))))

  ;; the build command, and its errors
  (write-region "int x;\n" nil "prog.c" nil 'silent)
  (jobbroker-compile "echo 'prog.c:1:3: error: no such thing'; false")
  (eventually "the end of the build" (and (newest-is "failed") (= 1 (noticed "exit status 1"))))
  (jobbroker-errors (plist-get (newest) :id))
  (eventually "the first error" (get-buffer "prog.c"))
  (check (equal (with-current-buffer "prog.c" (current-column)) 2) "the column")

  ;; rerun
  (let ((before (plist-get (newest) :id)))
    (jobbroker-rerun before)
    (eventually "another run" (and (newest-is "failed") (not (equal before (plist-get (newest) :id))))))

  ;; cancel
  (jobbroker-run "sleep 300")
  (eventually "a running job" (newest-is "running"))
  (check (string-prefix-p "1 run" (jobbroker-mode-line)) (jobbroker-mode-line))
  (check (string-match-p "sleep.*running" (text-of "*jobs*")) (text-of "*jobs*"))
  (jobbroker-cancel (plist-get (newest) :id))
  (eventually "cancelled" (newest-is "cancelled"))

  ;; followed, while it runs, and across another broker
  (jobbroker-run "trap '' HUP; echo one; while [ ! -e $MARKS/end ]; do sleep 0.05; done; echo two")
  (eventually "a running job" (newest-is "running"))
  (let* ((long (plist-get (newest) :id)) (name (format "*job %s*" (jobbroker--title (newest)))))
    (jobbroker-output long)
    (eventually "one" (and (get-buffer name) (string-suffix-p "\n\none\n" (text-of name))))
    (mark "ready")
    (eventually "the loss" (not jobbroker--ready))
    (check (equal (jobbroker-mode-line) "") (jobbroker-mode-line))
    (mark "down")
    (eventually "the return" (and jobbroker--ready (gethash long jobbroker--jobs)))
    (check (= 0 (noticed long)) notices)
    (mark "end")
    (eventually "two" (string-suffix-p "\n\none\ntwo\n" (text-of name)))
    (eventually "a notice of its end" (= 1 (noticed (concat long ".* completed")))))

  ;; what others start here is seen, and not announced
  (mark "other")
  (eventually "another's job" (and (newest-is "completed") (equal (plist-get (newest) :name) "other")))
  (check (= 0 (noticed "other")) notices))

(mark "result" (condition-case err (progn (drive) "passed") (error (format "%S" err))))
(kill-emacs 0)
